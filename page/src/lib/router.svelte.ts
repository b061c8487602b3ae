// Addresses of this page: the paths of the API without `/v1`.
import { tick } from "svelte";

class Router {
    path = $state(location.pathname);
    /** What is behind `#`. */
    anchor = $state(location.hash.slice(1));

    constructor() {
        window.addEventListener("popstate", () => this.#read());
        document.addEventListener("click", (event) => this.#click(event));
    }

    /** The path of the same thing in the API. */
    get json(): string {
        return this.path === "/" ? "/v1/status" : `/v1${this.path}`;
    }

    go(address: string): void {
        history.pushState(null, "", address);
        this.#read();
        void this.#arrive();
    }

    /** Shows what the anchor names, once it is there. */
    async seek(): Promise<void> {
        const anchor = this.anchor;
        if (anchor === "") return;
        await tick();
        document.getElementById(anchor)?.scrollIntoView({ block: "center" });
    }

    #read(): void {
        this.path = location.pathname;
        this.anchor = location.hash.slice(1);
    }

    /** Readers of a screen hear the new heading, and the keyboard continues there. */
    async #arrive(): Promise<void> {
        await tick();
        if (this.anchor !== "") return;
        window.scrollTo(0, 0);
        document.querySelector<HTMLElement>("main h1")?.focus({ preventScroll: true });
    }

    #click(event: MouseEvent): void {
        const plain =
            event.button === 0 &&
            !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
        const link = event.target instanceof Element ? event.target.closest("a") : null;
        const address = link?.getAttribute("href") ?? "";
        const isOurs = address.startsWith("/") && !/^\/(v1\/|openapi\.json|metrics)/.test(address);
        if (!plain || event.defaultPrevented || !isOurs || link?.hasAttribute("download")) return;
        event.preventDefault();
        this.go(address);
    }
}

export const router = new Router();
