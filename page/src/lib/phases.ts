// The phases of an epoch: their lengths, as the rules compute them, and what happens in them.
import type { Facts } from "../api/types";

const BPS = 10_000;

export interface Part {
    /** As the clock names it: `reveal`, `publish:1`, .. */
    phase: string;
    /** Without the rank. */
    name: string;
    ms: number;
}

/** What people do in a phase. */
export const MEANING: Record<string, string> = {
    reveal: "Models reveal the weights that they committed, and validators their parts of the beacon.",
    publish:
        "The closest submissions of the epoch before publish their data, one rank after the other.",
    compete:
        "Targets are drawn. Submitters score their documents with the models routed to each target, and the closest document leads.",
    attest: "Validators reveal what they computed about the data that was published.",
};

/** The parts of an epoch, in order; of equal length if an operator ends the phases. */
export function parts(params: Facts): Part[] {
    const epoch = Number(params.epoch_ms);
    const share = (bps: number) => Math.floor((epoch * bps) / BPS);
    const [reveal, publish, attest] = ["reveal_bps", "publish_bps", "attest_bps"].map((name) =>
        Number(params[name]),
    );
    const ranks = Math.max(1, Number(params.candidates_per_target));
    const compete = BPS - reveal! - publish! - attest!;
    const timed = epoch > 0;
    const list: Part[] = [{ phase: "reveal", name: "reveal", ms: timed ? share(reveal!) : 2 }];
    for (let rank = 0; rank < ranks; rank += 1) {
        const ms = timed ? Math.floor(share(publish!) / ranks) : 2 / ranks;
        list.push({ phase: `publish:${rank}`, name: "publish", ms });
    }
    list.push({ phase: "compete", name: "compete", ms: timed ? share(compete) : 2 });
    list.push({ phase: "attest", name: "attest", ms: timed ? share(attest!) : 2 });
    return list;
}
