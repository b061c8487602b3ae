// What all curves of the page have in common: their frame, their colors, and that they follow the
// width of the page, the theme, and data that grows.
import { untrack } from "svelte";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { choice } from "./theme.svelte";

const WIDTH_MIN = 240;

/** The parts of a plot that have the style of the page. */
export interface Style {
    /** An axis, but for what is particular about it. */
    axis: uPlot.Axis;
    /** A color of the style, as a canvas takes it: its name stands for a light and a dark one. */
    color: (name: string) => string;
}

interface Form {
    frame: () => HTMLElement | undefined;
    height: (width: number) => number;
    /** What is drawn how. When something that it reads changes, the plot is built again. */
    options: (style: Style) => Omit<uPlot.Options, "width" | "height">;
    /** When only this changes, the plot stays and gets it. */
    data: () => uPlot.AlignedData;
    /** The part of x that the reader looks at, if it is not all. */
    closer?: () => { min: number; max: number } | undefined;
}

/** A plot in a frame of a view; it goes with the view. */
export class Plot {
    #plot: uPlot | undefined;

    constructor(form: Form) {
        $effect(() => {
            const frame = form.frame();
            if (!frame) return;
            const size = () => {
                const width = Math.max(WIDTH_MIN, frame.clientWidth);
                return { width, height: form.height(width) };
            };
            const options = { legend: { show: false }, ...form.options(styled(frame)), ...size() };
            const plot = new uPlot(options, untrack(form.data), frame);
            const part = untrack(() => form.closer?.());
            if (part) plot.setScale("x", { ...part });
            const resize = new ResizeObserver(() => plot.setSize(size()));
            resize.observe(frame);
            this.#plot = plot;
            return () => {
                resize.disconnect();
                plot.destroy();
                this.#plot = undefined;
            };
        });
        $effect(() => {
            const data = form.data();
            const plot = this.#plot;
            if (!plot || plot.data === data) return;
            const part = untrack(() => form.closer?.());
            plot.setData(data, part === undefined);
            if (part) plot.setScale("x", { ...part });
        });
    }

    /** Puts the cursor there. */
    look(x: number): void {
        this.#plot?.setCursor({ left: this.#plot.valToPos(x, "x"), top: 0 }, false);
    }
}

function styled(frame: HTMLElement): Style {
    // The names stand for other colors in the other theme.
    void choice.isDark;
    const style = getComputedStyle(frame);
    const color = (name: string) => {
        frame.style.color = `var(${name})`;
        const color = style.color;
        frame.style.color = "";
        return color;
    };
    const axis = {
        stroke: color("--quiet"),
        grid: { stroke: color("--line"), width: 1 },
        ticks: { show: false },
        font: `12px ${style.fontFamily}`,
    };
    return { axis, color };
}
