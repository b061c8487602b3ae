// An answer of the API that a view shows, asked again when an event concerns it.
import { Problem, get } from "../api/get";
import type { Event } from "../api/types";
import { live } from "./live.svelte";

/** The shortest time between two questions for the same thing. */
const PAUSE_MS = 800;

export class Resource<T> {
    value = $state.raw<T>();
    problem = $state.raw<Problem>();

    /**
     * Asks for what `path` names, now, when it names something else, and when an event comes for
     * which `concerns` is true. While `path` is `null`, nothing is asked.
     */
    constructor(path: () => string | null, concerns: (event: Event) => boolean = () => false) {
        $effect(() => {
            const asked = path();
            this.problem = undefined;
            if (asked === null) {
                this.value = undefined;
                return;
            }
            const abort = new AbortController();
            let timer: ReturnType<typeof setTimeout> | undefined;
            let last = 0;
            const ask = async () => {
                last = Date.now();
                try {
                    this.value = await get<T>(asked, abort.signal);
                    this.problem = undefined;
                } catch (error) {
                    if (!abort.signal.aborted && error instanceof Problem) this.problem = error;
                }
            };
            const soon = () => {
                clearTimeout(timer);
                timer = setTimeout(() => void ask(), Math.max(50, last + PAUSE_MS - Date.now()));
            };
            const stop = live.listen((events) => {
                if (events === "everything" || events.some(concerns)) soon();
            });
            void ask();
            return () => {
                stop();
                clearTimeout(timer);
                abort.abort();
            };
        });
    }
}
