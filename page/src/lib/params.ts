// A parameter's value, read by the unit at the end of its name.
import { bytes, duration, integer, nats, percent, somaExact } from "./format";

const AMOUNTS =
    /^(model_stake_min|validator_stake_min|rent_price_per_mib_epoch|proposal_deposit|.*_fee)$/;

export function parameter(name: string, value: unknown): string {
    const text = String(value);
    if (name.endsWith("_ms"))
        return Number(text) === 0 ? "until the operator ends it" : duration(Number(text));
    if (name.endsWith("_bps")) return percent(Number(text));
    if (name.endsWith("_q32")) return `${nats(text)} nat`;
    if (name.endsWith("_bytes_max")) return bytes(text);
    if (AMOUNTS.test(name)) return somaExact(text);
    return /^\d+$/.test(text) ? integer(text) : text;
}
