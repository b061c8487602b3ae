// Submissions as the history tells of them.
import type { Event, Submission } from "../api/types";

/** What somebody entered for a target, and the last that happened to it. */
export interface Entered {
    target: number;
    submitter: string;
    model: number;
    distance: string;
    loss: string;
    outcome: string;
    enteredMs: string;
}

const OUTCOMES: Record<string, string> = {
    submission_accepted: "entered",
    submission_displaced: "displaced",
    submission_released: "a closer one won",
    submission_forfeited: "not published",
    data_published: "published",
};

/**
 * The submissions in a history that is given newest first, each target and submitter once, with the
 * closest of what was entered.
 */
export function entered(events: Event[]): Entered[] {
    const found = new Map<string, Entered>();
    const last = new Map<string, string>();
    for (const event of events) {
        const key = `${event.target} ${event.submitter}`;
        const outcome = event.event === "target_settled" ? "won" : OUTCOMES[event.event];
        if (outcome !== undefined && !last.has(key)) last.set(key, outcome);
        if (event.event !== "submission_accepted") continue;
        const closest = found.get(key);
        if (closest && BigInt(closest.distance) <= BigInt(String(event.distance))) continue;
        found.set(key, {
            target: Number(event.target),
            submitter: String(event.submitter),
            model: Number(event.model),
            distance: String(event.distance),
            loss: String(event.loss_q32),
            outcome: last.get(key) ?? "entered",
            enteredMs: event.timestamp_ms,
        });
    }
    return [...found.values()];
}

/** Where a submission has its page. */
export function submissionPath(target: number | string, submitter: string): string {
    return `/targets/${target}/submissions/${submitter}`;
}

/** What became of a submission, as a word. */
export function outcome(submission: Submission): string {
    if (submission.payment) return "won";
    if (submission.publication) return "published";
    const rank = submission.candidates[0]?.rank;
    if (submission.status === "open" && rank !== undefined) return rank === 0 ? "ahead" : "behind";
    const happened = submission.events.map((event) => event.event);
    if (happened.includes("submission_forfeited")) return "not_published";
    const published = submission.events.some(
        (event) => event.event === "data_published" && event.submitter === submission.submitter,
    );
    if (happened.includes("target_returned") && published) return "not_settled";
    return submission.status === "published" && rank !== undefined ? "waiting" : "lost";
}
