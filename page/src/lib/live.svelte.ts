// What is known of the chain right now: the node's status, asked every few seconds, and the events
// of finalized blocks, streamed. A hidden page lets go of its stream and resumes at its cursor.
import { Problem, get, unreachable } from "../api/get";
import { follow } from "../api/stream";
import type { Event, Model, Page, Status } from "../api/types";

const STATUS_MS = 2_000;
/** How long the node may take to tell its status. */
const STATUS_MAX_MS = 10_000;
/** Pause before a lost stream is opened again. */
const RETRY_MS = 1_500;
/** A stream that brings nothing for so long has nothing of what was before it. */
const QUIET_MS = 1_500;
/** Events that the home page shows. */
const RECENT_MAX = 60;
/** Blocks before the last one whose events are shown at first. */
const RECENT_BLOCKS = 40;
/** A page that is further behind than this asks again for what it shows, and skips the events. */
const BEHIND_BLOCKS_MAX = 2_000;
/** Models whose names are known without asking. */
const NAMES_PAGE = 500;

type Listener = (events: Event[] | "everything") => void;

class Live {
    status = $state.raw<Status>();
    /** When the status was received, in milliseconds of this machine's clock. */
    receivedAt = $state(0);
    /** Whether events arrive. */
    streaming = $state(false);
    /** Why the status is old, if it is. */
    problem = $state.raw<Problem>();
    /** Whether the last events are known, if there are any. */
    heard = $state(false);
    /** The last events, newest first. */
    recent = $state.raw<Event[]>([]);
    /** Names of models, by number. */
    names = $state.raw<Map<number, string>>(new Map());
    /** This machine's time, updated every second. */
    now = $state(Date.now());

    #listeners = new Set<Listener>();
    #cursor: string | undefined;
    #stream: AbortController | undefined;
    #isAsking = false;

    start(): void {
        setInterval(() => (this.now = Date.now()), 1_000);
        void this.#ask();
        setInterval(() => void this.#ask(), STATUS_MS);
        void this.#loadNames();
        document.addEventListener("visibilitychange", () => this.#seen());
        window.addEventListener("online", () => this.#seen());
        void this.#run();
    }

    /** Calls the listener with events as they come, until the result is called. */
    listen(listener: Listener): () => void {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
    }

    /** Block time until the phase ends, in milliseconds; `null` if an operator ends it. */
    get leftMs(): number | null {
        const ends = this.status?.clock.ends_ms;
        if (!this.status || ends === null || ends === undefined) return null;
        const sinceBlock = Math.max(0, this.now - this.receivedAt);
        return Math.max(0, Number(ends) - Number(this.status.timestamp_ms) - sinceBlock);
    }

    /** The last epoch whose targets are drawn: the running one, or the one before. */
    get drawn(): number {
        const clock = this.status?.clock;
        return clock ? clock.epoch - (clock.beacon ? 0 : 1) : 0;
    }

    async #ask(): Promise<void> {
        // A node that is slow is not asked more often than it answers.
        if (document.hidden || this.#isAsking) return;
        this.#isAsking = true;
        try {
            const status = await get<Status>("/v1/status", AbortSignal.timeout(STATUS_MAX_MS));
            // Another chain at the same address: nothing that is shown is true any more.
            if (this.status && this.status.chain_id !== status.chain_id) location.reload();
            this.receivedAt = Date.now();
            this.now = this.receivedAt;
            this.status = status;
            this.problem = undefined;
        } catch (error) {
            this.problem = error instanceof Problem ? error : unreachable();
        } finally {
            this.#isAsking = false;
        }
    }

    #seen(): void {
        if (document.hidden) {
            this.#stream?.abort();
        } else {
            void this.#ask();
        }
    }

    async #run(): Promise<never> {
        for (;;) {
            if (this.status && !document.hidden) {
                this.#cursor = this.#resume(Number(this.status.height));
                this.#stream = new AbortController();
                this.streaming = true;
                setTimeout(() => (this.heard = true), QUIET_MS);
                try {
                    await follow(this.#cursor, (events) => this.#take(events), this.#stream.signal);
                } catch {
                    // Lost or aborted; what was missed comes with the next stream.
                }
                this.streaming = false;
            }
            await new Promise((resolve) => setTimeout(resolve, this.status ? RETRY_MS : 100));
        }
    }

    /** The cursor to continue from, or one that is near enough to the last block. */
    #resume(height: number): string {
        const from = Number(this.status?.history_from ?? 1);
        const near = `${Math.max(0, from - 1, height - RECENT_BLOCKS)}-4294967295`;
        if (this.#cursor === undefined) return near;
        if (height - Number(this.#cursor.split("-")[0]) <= BEHIND_BLOCKS_MAX) return this.#cursor;
        for (const listener of [...this.#listeners]) listener("everything");
        void this.#loadNames();
        return near;
    }

    #take(events: Event[]): void {
        this.heard = true;
        this.#cursor = events.at(-1)?.cursor ?? this.#cursor;
        this.recent = [...events.toReversed(), ...this.recent].slice(0, RECENT_MAX);
        const registered = events.filter((event) => event.event === "model_registered");
        if (registered.length > 0) {
            const named = registered.map((event): [number, string] => [
                Number(event.model),
                String(event.name),
            ]);
            this.names = new Map([...this.names, ...named]);
        }
        if (events.some((event) => event.event === "phase_began")) void this.#ask();
        for (const listener of [...this.#listeners]) listener(events);
    }

    async #loadNames(): Promise<void> {
        try {
            const page = await get<Page<Model>>(`/v1/models?limit=${NAMES_PAGE}`);
            this.names = new Map(page.items.map((model) => [model.id, model.name]));
        } catch {
            // Numbers are shown instead.
        }
    }
}

export const live = new Live();
