// An answer of the API that a view shows, asked again when an event concerns it.
import type { Problem } from "../api/get";
import type { Event } from "../api/types";
import { asks } from "./asks.svelte";

export class Resource<T> {
    value = $state.raw<T>();
    problem = $state.raw<Problem>();

    /**
     * Asks for what `path` names, now, when it names something else, and when an event comes for
     * which `concerns` is true. While `path` is `null`, nothing is asked.
     */
    constructor(path: () => string | null, concerns: (event: Event) => boolean = () => false) {
        asks<T>({
            path,
            concerns,
            begin: (path) => {
                this.problem = undefined;
                if (path === null) this.value = undefined;
            },
            take: (answer) => {
                this.value = answer;
                this.problem = undefined;
            },
            fail: (problem) => (this.problem = problem),
        });
    }
}
