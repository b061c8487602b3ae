// Finds what a number, name, address or hash stands for.
import { find, get } from "../api/get";
import type { Block, Epoch, Model, Page, Target, Transaction, Validator } from "../api/types";
import { words } from "./format";
import { FOUND } from "./places";
import { visible } from "./printable";

export interface Hit {
    kind: string;
    title: string;
    path: string;
}

/** Models that are searched by name or weights: the first of them. */
const MODELS_MAX = 2_000;
const PAGE = 500;
const HITS_MAX = 12;

export async function search(text: string, signal: AbortSignal): Promise<Hit[]> {
    const query = visible(text).trim();
    if (query === "") return [];
    if (/^#?\d{1,18}$/.test(query)) return numbered(query.replace("#", ""), signal);
    if (/^soma1[a-z0-9]+$/.test(query)) return addressed(query, signal);
    if (/^[0-9a-fA-F]{64}$/.test(query)) return hashed(query.toLowerCase(), signal);
    return named(query.toLowerCase(), signal);
}

async function numbered(number: string, signal: AbortSignal): Promise<Hit[]> {
    const [model, target, epoch, block] = await Promise.all([
        find<Model>(`/v1/models/${number}`, signal),
        find<Target>(`/v1/targets/${number}`, signal),
        find<Epoch>(`/v1/epochs/${number}`, signal),
        find<Block>(`/v1/blocks/${number}`, signal),
    ]);
    const hits: (Hit | null)[] = [
        model && { kind: "model", title: model.name, path: `/models/${number}` },
        target && {
            kind: "target",
            title: `target ${number}, ${target.status}`,
            path: `/targets/${number}`,
        },
        epoch && { kind: "epoch", title: `epoch ${number}`, path: `/epochs/${number}` },
        block && { kind: "block", title: `block ${number}`, path: `/blocks/${number}` },
    ];
    return hits.filter((hit) => hit !== null);
}

async function addressed(address: string, signal: AbortSignal): Promise<Hit[]> {
    const [account, validator] = await Promise.all([
        find(`/v1/accounts/${address}`, signal),
        find<Validator>(`/v1/validators/${address}`, signal),
    ]);
    const hits: (Hit | null)[] = [
        account ? { kind: "account", title: address, path: `/accounts/${address}` } : null,
        validator && {
            kind: "validator",
            title: `validator, ${validator.status}`,
            path: `/validators/${address}`,
        },
    ];
    return hits.filter((hit) => hit !== null);
}

async function hashed(hash: string, signal: AbortSignal): Promise<Hit[]> {
    const [transaction, block, models] = await Promise.all([
        find<Transaction>(`/v1/transactions/${hash}`, signal),
        find<Block>(`/v1/blocks/${hash}`, signal),
        everyModel(signal),
    ]);
    const holds = (model: Model) =>
        [model.weights, model.next].some(
            (weights) => weights?.hash === hash || weights?.ciphertext_hash === hash,
        ) ||
        model.commits.some(
            (commit) => commit.ciphertext_hash === hash || commit.commitment === hash,
        );
    const hits: (Hit | null)[] = [
        transaction && {
            kind: "transaction",
            title: transaction.action,
            path: `/transactions/${hash}`,
        },
        block && { kind: "block", title: `block ${block.height}`, path: `/blocks/${block.height}` },
        ...models.filter(holds).map((model) => ({
            kind: "weights of",
            title: model.name,
            path: `/models/${model.id}`,
        })),
    ];
    return hits.filter((hit) => hit !== null);
}

async function named(name: string, signal: AbortSignal): Promise<Hit[]> {
    const [models, params] = await Promise.all([
        everyModel(signal),
        get<Record<string, unknown>>("/v1/params", signal),
    ]);
    const places = FOUND.filter(({ words }) => words.some((word) => word.startsWith(name)));
    const numbered = /^(model|target|epoch|block)s?[ #:/]*(\d+)$/.exec(name);
    const hits: Hit[] = [
        ...(numbered
            ? [{ kind: numbered[1]!, title: name, path: `/${numbered[1]}s/${numbered[2]}` }]
            : []),
        ...places.map(({ name, path }) => ({ kind: "page", title: name, path })),
        ...models
            .filter((model) => visible(model.name).toLowerCase().includes(name))
            .map((model) => ({ kind: "model", title: model.name, path: `/models/${model.id}` })),
        ...Object.keys(params)
            .filter((key) => words(key).includes(words(name)))
            .map((key) => ({ kind: "parameter", title: key, path: `/params#${key}` })),
    ];
    return hits.slice(0, HITS_MAX);
}

async function everyModel(signal: AbortSignal): Promise<Model[]> {
    const models: Model[] = [];
    let after: string | null = "0";
    while (after !== null && models.length < MODELS_MAX) {
        const page: Page<Model> = await get(`/v1/models?limit=${PAGE}&after=${after}`, signal);
        models.push(...page.items);
        after = page.next;
    }
    return models;
}
