// Light or dark: as the system says, until the reader says otherwise.
import { MediaQuery } from "svelte/reactivity";

export type Theme = "system" | "light" | "dark";

const KEY = "soma-theme";
const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };

function kept(): Theme {
    try {
        const value = localStorage.getItem(KEY);
        return value === "light" || value === "dark" ? value : "system";
    } catch {
        return "system";
    }
}

const system = new MediaQuery("(prefers-color-scheme: dark)");

class Choice {
    theme = $state<Theme>(kept());

    constructor() {
        this.#apply();
    }

    /** Whether the page is dark, for what is not drawn by style alone. */
    get isDark(): boolean {
        return this.theme === "dark" || (this.theme === "system" && system.current);
    }

    next(): void {
        this.theme = NEXT[this.theme];
        this.#apply();
        try {
            localStorage.setItem(KEY, this.theme);
        } catch {
            // It holds until the page is left.
        }
    }

    /** At once: whoever draws again because of it reads the new colors. */
    #apply(): void {
        document.documentElement.dataset.theme = this.theme;
    }
}

export const choice = new Choice();
