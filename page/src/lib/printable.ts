// Text from the chain is shown as it is, but for characters that would change the text around it.

/** Controls, and marks that turn the direction of writing. */
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** The text without such characters. */
export function visible(text: string): string {
    return text.replaceAll(UNSEEN, "");
}

/** The text with such characters as their numbers. */
export function printable(text: string): string {
    return text.replaceAll(UNSEEN, (mark) => {
        const number = mark.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
        return `⟨U+${number}⟩`;
    });
}
