// Colors of the style as a canvas takes them.

/** The named colors in the theme that is shown: each name stands for a light and a dark one. */
export function colors(frame: HTMLElement, names: string[]): string[] {
    const style = getComputedStyle(frame);
    return names.map((name) => {
        frame.style.color = `var(${name})`;
        return style.color;
    });
}
