// Light or dark: as the system says, until the reader says otherwise.

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

class Choice {
    theme = $state<Theme>(kept());

    next(): void {
        this.theme = NEXT[this.theme];
        try {
            localStorage.setItem(KEY, this.theme);
        } catch {
            // It holds until the page is left.
        }
    }
}

export const choice = new Choice();
