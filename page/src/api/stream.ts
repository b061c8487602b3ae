// The stream of events, read by hand: `EventSource` passes on only kinds that are named before.
import type { Event } from "./types";

/** Milliseconds without a byte after which a stream counts as lost; a node sends one every 10 s. */
const SILENCE_MS = 25_000;
/** Characters of an event that has not ended; a stream with a longer one is opened again. */
const EVENT_MAX = 1 << 20;

/**
 * Reads events after a cursor until the stream ends, is silent for too long, or is aborted. Events
 * that arrive together are passed on together.
 */
export async function follow(
    after: string,
    passOn: (events: Event[]) => void,
    signal: AbortSignal,
): Promise<void> {
    const abort = new AbortController();
    signal.addEventListener("abort", () => abort.abort(), { once: true });
    let silence = setTimeout(() => abort.abort(), SILENCE_MS);
    try {
        const response = await fetch(`/v1/events?after=${encodeURIComponent(after)}`, {
            signal: abort.signal,
        });
        if (!response.ok || !response.body) return;
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "";
        for (;;) {
            const { done, value } = await reader.read();
            if (done) return;
            clearTimeout(silence);
            silence = setTimeout(() => abort.abort(), SILENCE_MS);
            const messages = (rest + value).split("\n\n");
            rest = messages.pop() ?? "";
            const events = messages.flatMap(parse);
            if (events.length > 0) passOn(events);
            if (rest.length > EVENT_MAX) return;
        }
    } finally {
        clearTimeout(silence);
        abort.abort();
    }
}

function parse(message: string): Event[] {
    const data = message
        .split("\n")
        .filter((line) => line.startsWith("data: "))
        .map((line) => line.slice(6));
    return data.length === 0 ? [] : [JSON.parse(data.join("\n")) as Event];
}
