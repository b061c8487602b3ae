// Where the page is read.

/** Whether the node is on the reader's machine. */
export function atHome(): boolean {
    return /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(location.hostname);
}
