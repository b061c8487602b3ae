// A list of the API that is read page by page, as the reader asks for more.
import { Problem, get } from "../api/get";
import type { Event, Page } from "../api/types";
import { live } from "./live.svelte";

const PAUSE_MS = 1_000;

export class Paged<T> {
    items = $state.raw<T[]>([]);
    next = $state.raw<string | null>(null);
    problem = $state.raw<Problem>();
    loaded = $state(false);

    #path: () => string | null;
    /** Pages that were asked for. From the second on, the first must stay as it is. */
    #pages = 1;

    /** While only the first page is shown, it is asked again when an event concerns it. */
    constructor(path: () => string | null, concerns: (event: Event) => boolean = () => false) {
        this.#path = path;
        $effect(() => {
            const asked = path();
            this.items = [];
            this.next = null;
            this.loaded = false;
            this.problem = undefined;
            this.#pages = 1;
            if (asked === null) return;
            let timer: ReturnType<typeof setTimeout> | undefined;
            const abort = new AbortController();
            const ask = async () => {
                try {
                    const page = await get<Page<T>>(asked, abort.signal);
                    if (this.#pages <= 1) {
                        this.items = page.items;
                        this.next = page.next;
                    }
                    this.loaded = true;
                } catch (error) {
                    if (!abort.signal.aborted && error instanceof Problem) this.problem = error;
                }
            };
            const stop = live.listen((events) => {
                if (this.#pages > 1) return;
                if (events === "everything" || events.some(concerns)) {
                    clearTimeout(timer);
                    timer = setTimeout(() => void ask(), PAUSE_MS);
                }
            });
            void ask();
            return () => {
                stop();
                clearTimeout(timer);
                abort.abort();
            };
        });
    }

    async more(): Promise<void> {
        const path = this.#path();
        const after = this.next;
        if (path === null || after === null) return;
        const joint = path.includes("?") ? "&" : "?";
        this.#pages += 1;
        try {
            const page = await get<Page<T>>(`${path}${joint}after=${encodeURIComponent(after)}`);
            // Whoever asks twice gets the same page twice.
            if (this.next !== after) return;
            this.items = [...this.items, ...page.items];
            this.next = page.next;
        } catch (error) {
            this.#pages -= 1;
            if (error instanceof Problem) this.problem = error;
        }
    }
}
