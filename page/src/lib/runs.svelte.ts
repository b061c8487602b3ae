// Logs of training runs that the reader opened. They are read in the browser and go nowhere; a log
// that the browser lets read again is followed as it grows.
import { RunLog } from "./runlog";

/** How often a growing log is read. */
const EVERY_MS = 1_000;
/** Bytes of a log that are read. */
const BYTES_MAX = 256 << 20;
/** Bytes that are read at once, so that the page stays alive. */
const PIECE_BYTES = 4 << 20;
const RUNS_MAX = 12;
/** Colors of runs in the style: `--run-0`, .. */
const COLORS = 6;
/** Lengths of dashes and gaps, so that curves differ by more than their colors. */
const DASHES = [[], [10, 4], [3, 3], [12, 4, 3, 4]];

/** A file that can be asked again for what is in it now. Not all browsers have it. */
interface Handle {
    kind?: string;
    name: string;
    getFile(): Promise<File>;
    isSameEntry(other: Handle): Promise<boolean>;
}

type Picker = (options: { multiple: boolean }) => Promise<Handle[]>;

export class OpenRun {
    readonly number: number;
    readonly name: string;
    /** Counts readings, so that whatever is drawn of the log follows. */
    version = $state(0);
    shown = $state(true);
    problem = $state("");
    /** The file, if it is read again as it grows. */
    readonly handle: Handle | undefined;

    log = new RunLog();
    #source: () => Promise<File>;
    #read = 0;
    #decoder = new TextDecoder();
    #busy = false;

    constructor(number: number, name: string, source: () => Promise<File>, handle?: Handle) {
        this.number = number;
        this.name = name;
        this.#source = source;
        this.handle = handle;
    }

    get follows(): boolean {
        return this.handle !== undefined;
    }

    /** The name of its color in the style. */
    get color(): string {
        return `run-${this.number % COLORS}`;
    }

    get dash(): number[] {
        return DASHES[this.number % DASHES.length]!;
    }

    /** Reads what is new in the file. */
    async read(): Promise<void> {
        if (this.#busy) return;
        this.#busy = true;
        try {
            const file = await this.#source();
            // A shorter file is another one.
            if (file.size < this.#read) this.#begin();
            const size = Math.min(file.size, BYTES_MAX);
            const isNew = size > this.#read;
            while (this.#read < size) {
                const end = Math.min(size, this.#read + PIECE_BYTES);
                const bytes = await file.slice(this.#read, end).arrayBuffer();
                this.log.add(this.#decoder.decode(bytes, { stream: true }));
                this.#read = end;
            }
            if (isNew && !this.follows) this.log.end();
            this.problem =
                file.size > BYTES_MAX ? `only the first ${BYTES_MAX >> 20} MiB are read` : "";
            if (isNew || this.version === 0) this.version += 1;
        } catch {
            this.problem = "the browser can no longer read the file; open it again";
            this.version += 1;
        } finally {
            this.#busy = false;
        }
    }

    #begin(): void {
        this.log = new RunLog();
        this.#read = 0;
        this.#decoder = new TextDecoder();
    }
}

class Runs {
    list = $state.raw<OpenRun[]>([]);
    /** Why something was not opened. */
    notice = $state("");

    /** Whether the browser lets a page read a chosen file again. */
    get canFollow(): boolean {
        return "showOpenFilePicker" in window;
    }

    /** Lets the reader choose logs that are followed; false if the browser cannot. */
    async choose(): Promise<boolean> {
        const picker = (window as { showOpenFilePicker?: Picker }).showOpenFilePicker;
        if (!picker) return false;
        try {
            for (const handle of await picker.call(window, { multiple: true }))
                await this.#follow(handle);
        } catch {
            // Nothing was chosen.
        }
        return true;
    }

    /** Opens files that cannot be followed. */
    add(files: Iterable<File>): void {
        for (const file of files) this.#open(file.name, () => Promise.resolve(file));
    }

    /** Opens what was dropped, and follows it where the browser can. */
    async drop(data: DataTransfer): Promise<void> {
        type Item = DataTransferItem & { getAsFileSystemHandle?: () => Promise<Handle | null> };
        // All of it is asked for at once: the list is empty after the first pause.
        const dropped = [...data.items]
            .filter((item) => item.kind === "file")
            .map((item: Item) => ({
                file: item.getAsFile(),
                handle: item.getAsFileSystemHandle?.() ?? Promise.resolve(null),
            }));
        for (const { file, handle } of dropped) {
            const found = await handle.catch(() => null);
            if (found?.kind === "file") await this.#follow(found);
            else if (file) this.add([file]);
        }
    }

    remove(run: OpenRun): void {
        this.list = this.list.filter((open) => open !== run);
    }

    /** Reads growing logs again and again, until the result is called. */
    watch(): () => void {
        const timer = setInterval(() => {
            if (document.hidden) return;
            for (const run of this.list) if (run.follows) void run.read();
        }, EVERY_MS);
        return () => clearInterval(timer);
    }

    /** Opens a file, unless it is followed already. */
    async #follow(handle: Handle): Promise<void> {
        for (const { handle: other } of this.list)
            if (other && (await other.isSameEntry(handle))) return;
        this.#open(handle.name, () => handle.getFile(), handle);
    }

    #open(name: string, source: () => Promise<File>, handle?: Handle): void {
        // A file that is opened again takes the place of what was read of it before.
        const before = this.list.find((run) => run.name === name && !run.follows);
        if (!before && this.list.length >= RUNS_MAX) {
            this.notice = `At most ${RUNS_MAX} runs are shown; remove one first.`;
            return;
        }
        this.notice = "";
        const number = before?.number ?? this.#free();
        const run = new OpenRun(number, name, source, handle);
        this.list = before
            ? this.list.map((open) => (open === before ? run : open))
            : [...this.list, run];
        void run.read();
    }

    /** The least number that no run has, for its color. */
    #free(): number {
        const taken = new Set(this.list.map((run) => run.number));
        let number = 0;
        while (taken.has(number)) number += 1;
        return number;
    }
}

export const runs = new Runs();
