// What a target's record says about who is ahead or has won.
import type { Target } from "../api/types";

export interface Ahead {
    model: number;
    submitter: string;
    distance: string;
    /** What the model claims; not kept once the target is settled. */
    loss: string | null;
}

/** The winner, or the submission that wins if nothing changes. */
export function leader(target: Target): Ahead | null {
    if (target.payment) {
        const { model, submitter, distance } = target.payment;
        return { model, submitter, distance, loss: null };
    }
    if (target.status === "returned") return null;
    const rank = target.publication?.rank ?? 0;
    const first = target.candidates.find((candidate) => candidate.rank === rank);
    return first
        ? {
              model: first.model,
              submitter: first.submitter,
              distance: first.distance,
              loss: first.loss_q32,
          }
        : null;
}

/** Why a target was not won. */
export const RETURNED: Record<string, string> = {
    unclaimed: "nobody published data for it",
    invalid: "validators found the claim invalid",
    no_quorum: "validators reached no verdict",
};

/** The mean claimed loss of each model over the candidates of targets, in 2^-32 nat. */
export function meanLosses(targets: Target[]): Map<number, number> {
    const sums = new Map<number, { sum: number; count: number }>();
    for (const candidate of targets.flatMap((target) => target.candidates)) {
        const known = sums.get(candidate.model) ?? { sum: 0, count: 0 };
        sums.set(candidate.model, {
            sum: known.sum + Number(candidate.loss_q32),
            count: known.count + 1,
        });
    }
    return new Map([...sums].map(([model, { sum, count }]) => [model, sum / count]));
}
