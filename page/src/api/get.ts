// Questions to the node that serves this page.
import type { ApiError } from "./types";

/** Why a question has no answer. */
export class Problem extends Error {
    constructor(
        readonly code: string,
        message: string,
        readonly hint: string | null,
        readonly status: number,
    ) {
        super(message);
    }
}

/** The problem of a node that does not answer. */
export function unreachable(): Problem {
    return new Problem("unreachable", "the node does not answer", "it may be restarting", 0);
}

/** The JSON at a path of the API. */
export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return ask<T>(path, { headers: { accept: "application/json" } }, signal);
}

/** What the API answers to data. */
export async function post<T>(path: string, body: Blob, signal?: AbortSignal): Promise<T> {
    const headers = { accept: "application/json", "content-type": "application/octet-stream" };
    return ask<T>(path, { method: "POST", headers, body }, signal);
}

async function ask<T>(path: string, init: RequestInit, signal?: AbortSignal): Promise<T> {
    let response: Response;
    try {
        response = await fetch(path, { ...init, signal: signal ?? null });
    } catch (error) {
        if (signal?.aborted) throw error;
        throw unreachable();
    }
    if (response.ok) {
        return (await response.json()) as T;
    }
    const body = (await response.json().catch(() => null)) as ApiError | null;
    throw new Problem(
        body?.code ?? "bad_answer",
        body?.message ?? `the node answers ${response.status}`,
        body?.hint ?? null,
        response.status,
    );
}

/** The answer, or `null` if there is no such thing. */
export async function find<T>(path: string, signal?: AbortSignal): Promise<T | null> {
    try {
        return await get<T>(path, signal);
    } catch (error) {
        if (error instanceof Problem && [400, 404, 410].includes(error.status)) return null;
        throw error;
    }
}
