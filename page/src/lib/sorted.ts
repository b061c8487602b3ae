// Looking things up in what is sorted.

/** The place of the last of rising numbers that is at most `most`; -1 if there is none. */
export function lastAtMost(sorted: ArrayLike<number>, most: number): number {
    let [from, to] = [0, sorted.length];
    while (from < to) {
        const middle = (from + to) >> 1;
        if (sorted[middle]! <= most) from = middle + 1;
        else to = middle;
    }
    return from - 1;
}
