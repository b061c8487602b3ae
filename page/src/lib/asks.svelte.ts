// Questions to the API whose answers a view shows.
import { Problem, get } from "../api/get";
import type { Event } from "../api/types";
import { live } from "./live.svelte";

/** The shortest time between two questions for the same thing. */
const PAUSE_MS = 800;
/** How long an answer may take before the question is asked again. */
const ANSWER_MAX_MS = 30_000;

interface Question<T> {
    /** What is asked for; nothing while it is `null`. */
    path: () => string | null;
    /** Whether the answer may be another one after an event. */
    concerns: (event: Event) => boolean;
    /** Before something is asked for, and with `null` if nothing is. */
    begin: (path: string | null) => void;
    take: (answer: T) => void;
    fail: (problem: Problem) => void;
}

/**
 * Asks now, when the path is another one, and when an event concerns it, until the view is left.
 * One question is asked at a time, so no answer comes after a newer one; and however often events
 * come, the answer is at most a pause behind them.
 */
export function asks<T>(question: Question<T>): void {
    $effect(() => {
        const path = question.path();
        question.begin(path);
        if (path === null) return;
        const abort = new AbortController();
        let timer: ReturnType<typeof setTimeout> | undefined;
        let last = 0;
        let isAsking = false;
        /** Whether an event came while the answer to the last question was on its way. */
        let isOld = false;
        const ask = async () => {
            timer = undefined;
            last = Date.now();
            isAsking = true;
            isOld = false;
            const late = AbortSignal.timeout(ANSWER_MAX_MS);
            try {
                const answer = await get<T>(path, AbortSignal.any([abort.signal, late]));
                if (!abort.signal.aborted) question.take(answer);
            } catch (error) {
                if (!abort.signal.aborted && error instanceof Problem) question.fail(error);
            }
            isAsking = false;
            if (late.aborted) isOld = true;
            if (isOld && !abort.signal.aborted) soon();
        };
        const soon = () => {
            if (isAsking) isOld = true;
            else timer ??= setTimeout(() => void ask(), Math.max(50, last + PAUSE_MS - Date.now()));
        };
        const stop = live.listen((events) => {
            if (events === "everything" || events.some(question.concerns)) soon();
        });
        void ask();
        return () => {
            stop();
            clearTimeout(timer);
            abort.abort();
        };
    });
}
