// Numbers as readers expect them. Integers of 64 bits come as text and are exact as `BigInt`.
import type { Model } from "../api/types";

const UNITS_PER_SOMA = 1_000_000_000n;
/** A loss or gain of one nat for each byte. */
export const LOSS_ONE = 2 ** 32;
/** Squared distance of orthogonal directions. */
const ORTHOGONAL = 2 * 32_767 ** 2;

const grouped = new Intl.NumberFormat("en-US");

/** An integer with separators. */
export function integer(value: string | number | bigint): string {
    return grouped.format(BigInt(value));
}

/** Base units as SOMA, with up to `digits` digits behind the point; nothing is rounded up. */
export function soma(units: string | number | bigint, digits = 2): string {
    const value = BigInt(units);
    const sign = value < 0n ? "−" : "";
    const size = value < 0n ? -value : value;
    const whole = size / UNITS_PER_SOMA;
    const rest = (size % UNITS_PER_SOMA).toString().padStart(9, "0");
    const shown = whole === 0n && size > 0n ? firstDigits(rest, digits) : rest.slice(0, digits);
    const fraction = shown.replace(/0+$/, "");
    return sign + grouped.format(whole) + (fraction === "" ? "" : `.${fraction}`);
}

/** As many digits as it takes to show the first that is not zero, and one more. */
function firstDigits(rest: string, digits: number): string {
    const first = rest.search(/[1-9]/);
    return rest.slice(0, Math.max(digits, first + 2));
}

/** Base units as SOMA with two digits behind the point, for a column; what is less is 0.00. */
export function somaColumn(units: string | number | bigint): string {
    const hundredths = BigInt(units) / (UNITS_PER_SOMA / 100n);
    const [whole, rest] = [hundredths / 100n, hundredths % 100n];
    return `${grouped.format(whole)}.${rest.toString().padStart(2, "0")}`;
}

/** All digits of an amount. */
export function somaExact(units: string | number | bigint): string {
    return `${soma(units, 9)} SOMA`;
}

/** A loss or gain in nats for each byte. */
export function nats(q32: string | number): string {
    return (Number(q32) / LOSS_ONE).toFixed(4);
}

/** A squared distance; 1 is that of orthogonal directions. */
export function distance(squared: string | number): string {
    return (Number(squared) / ORTHOGONAL).toFixed(4);
}

/** Ten-thousandths as a percentage. */
export function percent(bps: number): string {
    return `${(bps / 100).toLocaleString("en-US")} %`;
}

/** A commission, and the one that takes its place. */
export function commission(of: Pick<Model, "commission_bps" | "next_commission">): string {
    const next = of.next_commission;
    const then = next ? `, ${percent(next.bps)} from epoch ${next.epoch}` : "";
    return percent(of.commission_bps) + then;
}

/** A measured number, with as many digits as one reads. */
export function figure(value: number): string {
    if (value === 0 || !Number.isFinite(value)) return String(value);
    const size = Math.abs(value);
    if (size >= 1e6 || size < 1e-4) return value.toExponential(2).replace("-", "−");
    return Number(value.toPrecision(5)).toString().replace("-", "−");
}

/** A size in bytes. */
export function bytes(size: string | number): string {
    const value = Number(size);
    if (value < 1024) return `${value} B`;
    const power = Math.min(4, Math.floor(Math.log2(value) / 10));
    const scaled = value / 1024 ** power;
    return `${scaled.toFixed(scaled < 10 ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

/** A length of time, in its two largest units. */
export function duration(ms: number): string {
    const seconds = Math.floor(ms / 1000);
    const parts: [number, string][] = [
        [Math.floor(seconds / 86_400), "d"],
        [Math.floor(seconds / 3600) % 24, "h"],
        [Math.floor(seconds / 60) % 60, "min"],
        [seconds % 60, "s"],
    ];
    const first = parts.findIndex(([count]) => count > 0);
    if (first === -1) return "0 s";
    const shown = parts.slice(first, first + 2).filter(([count], at) => at === 0 || count > 0);
    return shown.map(([count, unit]) => `${count} ${unit}`).join(" ");
}

/** How long ago something was, by this machine's clock. */
export function ago(ms: string | number, now: number): string {
    const passed = now - Number(ms);
    return passed < 2_000 ? "now" : `${duration(passed).split(" ").slice(0, 2).join(" ")} ago`;
}

/** A moment, exactly. */
export function moment(ms: string | number): string {
    const date = new Date(Number(ms));
    return Number.isNaN(date.getTime())
        ? String(ms)
        : date.toISOString().replace("T", " ").replace("Z", " UTC");
}

/** A hash or an address, shortened. */
export function short(text: string): string {
    const head = text.startsWith("soma1") ? 9 : 6;
    return text.length <= head + 5 ? text : `${text.slice(0, head)}…${text.slice(-4)}`;
}

/** A word of the API as a word of the language. */
export function words(name: string): string {
    return name.replaceAll("_", " ");
}

/** The name of a field in words, without the unit that its value shows. */
export function label(field: string): string {
    return words(field.replace(/_(ms|bps|q32)$/, ""));
}
