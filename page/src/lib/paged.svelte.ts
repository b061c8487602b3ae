// A list of the API that is read page by page, as the reader asks for more.
import { Problem, get } from "../api/get";
import type { Event, Page } from "../api/types";
import { asks } from "./asks.svelte";

export class Paged<T> {
    items = $state.raw<T[]>([]);
    next = $state.raw<string | null>(null);
    problem = $state.raw<Problem>();
    loaded = $state(false);

    #path: () => string | null;
    #pageOf: (answer: unknown) => Page<T>;
    /** Pages that were asked for. From the second on, the first must stay as it is. */
    #pages = 1;

    /**
     * While only the first page is shown, it is asked again when an event concerns it. `pageOf`
     * says what of an answer is the list, if not all of it.
     */
    constructor(
        path: () => string | null,
        concerns: (event: Event) => boolean = () => false,
        pageOf = (answer: unknown) => answer as Page<T>,
    ) {
        this.#path = path;
        this.#pageOf = pageOf;
        asks<unknown>({
            path,
            concerns: (event) => this.#pages <= 1 && concerns(event),
            begin: () => {
                this.items = [];
                this.next = null;
                this.loaded = false;
                this.problem = undefined;
                this.#pages = 1;
            },
            take: (answer) => {
                if (this.#pages > 1) return;
                const page = pageOf(answer);
                this.items = page.items;
                this.next = page.next;
                this.loaded = true;
                this.problem = undefined;
            },
            fail: (problem) => (this.problem = problem),
        });
    }

    async more(): Promise<void> {
        const path = this.#path();
        const after = this.next;
        if (path === null || after === null) return;
        const joint = path.includes("?") ? "&" : "?";
        this.#pages += 1;
        try {
            const answer = await get(`${path}${joint}after=${encodeURIComponent(after)}`);
            const page = this.#pageOf(answer);
            // Whoever asks twice gets the same page twice.
            if (this.next !== after) return;
            this.items = [...this.items, ...page.items];
            this.next = page.next;
            this.problem = undefined;
        } catch (error) {
            this.#pages -= 1;
            if (error instanceof Problem) this.problem = error;
        }
    }
}
