// The log of a training run: one JSON object per line, as `soma train --log` and Python's
// `soma.track` write it. Whatever a file holds, reading it is bounded and never fails.

/** Names of values that a log may have; more are left out. */
const METRICS_MAX = 64;
const NAME_MAX = 80;
/** Steps that are kept. */
const STEPS_MAX = 1_000_000;
/** A line that is longer is malformed. */
const LINE_MAX = 1 << 20;

/** What a curve is drawn of, in the order of steps; `null` where a value was not finite. */
export interface Series {
    steps: number[];
    /**
     * Seconds of training, without the pauses between interruptions. They never fall: what an
     * interrupted process wrote beyond the last step of its successor counts as from then.
     */
    seconds: number[];
    values: (number | null)[];
}

interface Point {
    /** Seconds of training, all processes of the run together. */
    seconds: number;
    values: Map<string, number | null>;
}

/** A log that is read piece by piece, as the file grows. */
export class RunLog {
    /** Complete lines that are not empty. */
    lines = 0;
    /** Lines that are no JSON object with a step. */
    malformed = 0;
    /** The number of the first of those, from 1. */
    firstMalformed: number | null = null;
    /** Lines of steps that were left out because there are too many. */
    leftOut = 0;
    config: Record<string, unknown> | null = null;
    /** The last step. */
    step: number | null = null;

    #rest = "";
    #line = 0;
    #skipping = false;
    #points = new Map<number, Point>();
    #metrics = new Set<string>();
    /** The steps in order, and what was asked for of them; gone when the log grows. */
    #steps: number[] | undefined;
    #series = new Map<string, Series>();
    /** Seconds before this process of the run, and the last that it told. */
    #before = 0;
    #last = 0;

    /** Whether the file ends inside a line, as while it is written. */
    get unfinished(): boolean {
        return this.#rest.trim() !== "" || this.#skipping;
    }

    /** The names of the values, those of `soma train` first. */
    get metrics(): string[] {
        return [...this.#metrics];
    }

    /** Takes the next part of the file. */
    add(text: string): void {
        const lines = (this.#rest + text).split("\n");
        this.#rest = lines.pop() ?? "";
        for (const line of lines) {
            this.#line += 1;
            if (this.#skipping) this.#refuse();
            else this.#take(line);
            this.#skipping = false;
        }
        if (this.#rest.length > LINE_MAX) {
            this.#rest = "";
            this.#skipping = true;
        }
    }

    /** The last line of a file counts even without its end, if it is whole. */
    end(): void {
        const rest = this.#rest;
        if (this.#skipping || parsed(rest) === null) return;
        this.#rest = "";
        this.#line += 1;
        this.#take(rest);
    }

    /** What a curve of a value is drawn of; computed once, until the log grows. */
    series(metric: string): Series {
        const known = this.#series.get(metric);
        if (known) return known;
        this.#steps ??= [...this.#points.keys()].sort((a, b) => a - b);
        const series: Series = { steps: [], seconds: [], values: [] };
        for (const step of this.#steps) {
            const point = this.#points.get(step)!;
            const value = point.values.get(metric);
            if (value === undefined) continue;
            series.steps.push(step);
            series.seconds.push(Math.max(point.seconds, series.seconds.at(-1) ?? 0));
            series.values.push(value);
        }
        this.#series.set(metric, series);
        return series;
    }

    #take(line: string): void {
        if (line.trim() === "") return;
        const fields = line.length > LINE_MAX ? null : parsed(line);
        if (fields !== null && fields.step === undefined && fields.schema === "run/1") {
            this.lines += 1;
            this.config = isObject(fields.config) ? fields.config : {};
            return;
        }
        const step = fields?.step;
        if (fields === null || typeof step !== "number" || !Number.isSafeInteger(step)) {
            this.#refuse();
            return;
        }
        this.lines += 1;
        this.#note(step, fields);
    }

    #refuse(): void {
        this.lines += 1;
        this.malformed += 1;
        this.firstMalformed ??= this.#line;
    }

    #note(step: number, fields: Record<string, unknown>): void {
        const told = typeof fields.seconds === "number" ? Math.max(0, fields.seconds) : this.#last;
        // A run that was resumed counts from zero again.
        if (told < this.#last) this.#before += this.#last;
        this.#last = told;
        const seconds = this.#before + told;
        let point = this.#points.get(step);
        if (!point) {
            if (this.#points.size >= STEPS_MAX) {
                this.leftOut += 1;
                return;
            }
            point = { seconds, values: new Map() };
            this.#points.set(step, point);
            this.step = Math.max(step, this.step ?? step);
            this.#steps = undefined;
        }
        this.#series.clear();
        // Of several lines about a step, as after resuming, the last counts.
        point.seconds = seconds;
        for (const [name, value] of Object.entries(fields)) {
            if (name === "step" || name === "seconds" || name.length > NAME_MAX) continue;
            if (typeof value !== "number" && value !== null) continue;
            if (!this.#metrics.has(name) && this.#metrics.size >= METRICS_MAX) continue;
            this.#metrics.add(name);
            point.values.set(name, value === null || !Number.isFinite(value) ? null : value);
        }
    }
}

function parsed(line: string): Record<string, unknown> | null {
    try {
        const value: unknown = JSON.parse(line);
        return isObject(value) ? value : null;
    } catch {
        return null;
    }
}

function isObject(value: unknown): value is Record<string, unknown> {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * The exponential mean of the values so far, without the pull of its beginning: with a weight of
 * 0.9, about the last ten count.
 */
export function smoothed(values: (number | null)[], weight: number): (number | null)[] {
    let sum = 0;
    let norm = 0;
    return values.map((value) => {
        if (value === null) return null;
        sum = weight * sum + (1 - weight) * value;
        norm = weight * norm + (1 - weight);
        return sum / norm;
    });
}

/** The places of at most about `most` points: of each part of the curve its lowest and highest. */
export function thinned(values: (number | null)[], most: number): number[] {
    if (values.length <= most) return values.map((_, at) => at);
    const part = Math.ceil((2 * values.length) / most);
    const places: number[] = [];
    for (let from = 0; from < values.length; from += part) {
        let low = -1;
        let high = -1;
        for (let at = from; at < Math.min(values.length, from + part); at += 1) {
            const value = values[at];
            if (value === null || value === undefined) continue;
            if (low < 0 || value < values[low]!) low = at;
            if (high < 0 || value > values[high]!) high = at;
        }
        if (low < 0) continue;
        places.push(Math.min(low, high));
        if (low !== high) places.push(Math.max(low, high));
    }
    const last = values.length - 1;
    if (places.at(-1) !== last) places.push(last);
    return places;
}
