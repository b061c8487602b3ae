// What each byte of data costs a model, as runs of text that cost about the same.

/** A piece of text of one color. */
export interface Piece {
    /** The first of its bytes, from 0. */
    from: number;
    /** Behind the last of its bytes. */
    to: number;
    text: string;
    /** From 0, cheap, to `LEVELS - 1`; `null` for what nothing predicts. */
    level: number | null;
}

/** Costs of a character in nat, from which on the next color begins. */
const STEPS = [0.1, 0.5, 1, 2, 3, 4.5, 6];
export const LEVELS = STEPS.length + 1;
/** Differences of two models in nat, from which on the next color begins: on each side of zero. */
const DIFFERENCES = [0.1, 0.5, 1.5];

/** A character of data: its bytes, and how it is shown. */
interface Character {
    from: number;
    to: number;
    text: string;
}

/** The characters of data; bytes that are no text are shown as their numbers. */
export function characters(data: Uint8Array): Character[] {
    const found: Character[] = [];
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    let from = 0;
    while (from < data.length) {
        const first = data[from]!;
        const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
        const to = Math.min(data.length, from + length);
        let text: string | null;
        try {
            text = decoder.decode(data.subarray(from, to));
        } catch {
            text = null;
        }
        if (text === null || text === "") {
            found.push({ from, to: from + 1, text: `⟨${hex(first)}⟩` });
            from += 1;
        } else {
            found.push({ from, to, text: text === "\n" ? "⏎\n" : text });
            from = to;
        }
    }
    return found;
}

function hex(byte: number): string {
    return byte.toString(16).toUpperCase().padStart(2, "0");
}

/** What bytes cost together, in nat; `null` if nothing predicts them. */
export function cost(
    losses: (number | null | undefined)[],
    from: number,
    to: number,
): number | null {
    let sum: number | null = null;
    for (let at = from; at < to; at += 1) {
        const loss = losses[at];
        if (loss !== null && loss !== undefined) sum = (sum ?? 0) + loss / 1000;
    }
    return sum;
}

/** The text in pieces, by what it costs. */
export function heat(all: Character[], losses: (number | null)[]): Piece[] {
    return pieces(all, ({ from, to }) => {
        const nats = cost(losses, from, to);
        return nats === null ? null : STEPS.filter((step) => nats >= step).length;
    });
}

/**
 * The text in pieces, by which of two models predicts it better: below the middle the first, above
 * it the second.
 */
export function contrast(
    all: Character[],
    first: (number | null)[],
    second: (number | null)[],
): Piece[] {
    return pieces(all, ({ from, to }) => {
        const [firstCost, secondCost] = [cost(first, from, to), cost(second, from, to)];
        if (firstCost === null || secondCost === null) return null;
        const difference = firstCost - secondCost;
        const size = DIFFERENCES.filter((step) => Math.abs(difference) >= step).length;
        return DIFFERENCES.length + (difference > 0 ? size : -size);
    });
}

function pieces(all: Character[], levelOf: (character: Character) => number | null): Piece[] {
    const joined: Piece[] = [];
    for (const character of all) {
        const level = levelOf(character);
        const last = joined.at(-1);
        if (last && last.level === level) {
            last.to = character.to;
            last.text += character.text;
        } else {
            joined.push({ ...character, level });
        }
    }
    return joined;
}
