// Where the page is read, and what follows from it.
import type { Status } from "../api/types";

/** Whether the node is on the reader's machine. */
function atHome(): boolean {
    return /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(location.hostname);
}

/**
 * Whether data of the reader may be given to the node: on a local network alone, by whoever is at
 * its machine. While the node's status is not known, it may not.
 */
export function tries(status: Pick<Status, "local"> | undefined): boolean {
    return status?.local === true && atHome();
}
