// A real local network with models and submitters, all from the `soma` program.
import { execFile, spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Bytes of each document, and the most documents of a domain. */
const DOCUMENT_BYTES = 4_000;
const DOCUMENTS_MAX = 14;
/** Optimizer steps: enough that specialists differ. */
const STEPS = 80;
const EPOCH = "24s";

/** Small models, so that training takes seconds. */
const ARCHITECTURE = {
    embedding_dim: 64,
    num_heads: 4,
    num_layers: 2,
    pwff_hidden_dim: 256,
    vocab_size: 264,
    max_seq_len: 128,
    sig_reg_slices: 64,
    sig_reg_points: 17,
    sig_reg_t_max: 3.0,
};

/** Kinds of data in this repository, and the folders that have them. */
const DOMAINS = [
    ["rust", ["crates/protocol/src/action", "crates/model/src"], /\.rs$/],
    ["prose", ["docs", "docs/guides", "docs/adr"], /\.md$/],
    ["records", ["docs/reference"], /\.json$/],
];

/** A name that would do harm in a page that takes it for markup. */
export const HOSTILE = "<img src=x onerror=alert(1)>";

export class Network {
    #children = [];

    constructor(soma, root, folder) {
        Object.assign(this, { soma, root, folder });
        mkdirSync(folder, { recursive: true });
    }

    /** Runs the program as somebody with a key and a folder of their own. */
    async as(account, ...args) {
        const { stdout } = await run(this.soma, args, {
            env: this.#env(account),
            cwd: this.folder,
        });
        return stdout.trim();
    }

    #env(account) {
        const home = join(this.folder, `home-${account}`);
        return {
            ...process.env,
            SOMA_HOME: home,
            SOMA_URL: this.url ?? "",
            SOMA_KEY: join(this.folder, "state", "keys", `${account}.json`),
            NO_COLOR: "1",
        };
    }

    #spawn(account, name, ...args) {
        const log = openSync(join(this.folder, `${name}.log`), "w");
        const child = spawn(this.soma, args, {
            env: this.#env(account),
            cwd: this.folder,
            stdio: ["ignore", log, log],
        });
        this.#children.push(child);
        return child;
    }

    /** Starts the validators and waits until they answer. */
    async start(validators) {
        writeFileSync(join(this.folder, "tiny.json"), JSON.stringify(ARCHITECTURE));
        const info = join(this.folder, "info.json");
        this.#spawn(
            "none",
            "localnet",
            "localnet",
            "--validators",
            String(validators),
            "--epoch",
            EPOCH,
            "--port",
            "0",
            "--arch",
            "tiny.json",
            "--state",
            join(this.folder, "state"),
            "--info-out",
            info,
        );
        const begun = Date.now();
        for (;;) {
            try {
                this.info = JSON.parse(readFileSync(info, "utf8"));
                this.url = this.info.urls[0];
                if ((await fetch(`${this.url}/v1/status`)).ok) return;
            } catch {
                // Not yet.
            }
            if (Date.now() - begun > 60_000)
                throw new Error(`no network: ${readFileSync(join(this.folder, "localnet.log"))}`);
            await new Promise((resolve) => setTimeout(resolve, 200));
        }
    }

    /** Trains a specialist for each domain on its documents. */
    async train() {
        for (const [name, folders, kind] of DOMAINS) {
            const folder = join(this.folder, name);
            mkdirSync(folder, { recursive: true });
            for (const [path, text] of documents(this.root, folders, kind))
                writeFileSync(join(folder, path), text);
            await this.as(
                "none",
                "train",
                "--arch",
                "tiny.json",
                "--data",
                name,
                "--steps",
                String(STEPS),
                "--batch",
                "8",
                "-o",
                `${name}.safetensors`,
                "--log",
                `${name}.jsonl`,
                "--quiet",
            );
        }
    }

    /** Every specialist is published, and somebody with its documents submits them in every epoch. */
    async compete() {
        for (const [at, [name]] of DOMAINS.entries()) {
            const owner = `account-${at + 1}`;
            const stake = String(100 * (at + 1));
            await this.as(owner, "model", "register", `${name}-specialist`, "--stake", stake);
            const file = `${name}.safetensors`;
            this.#spawn(owner, `publish-${name}`, "model", "publish", file, "--domain", name);
            const submit = ["submit", name, "--watch", "--threads", "1"];
            this.#spawn(`account-${at + 4}`, `submit-${name}`, ...submit);
        }
        await this.as("account-7", "model", "register", HOSTILE, "--stake", "5");
    }

    address(account) {
        return this.info.keys[account].address;
    }

    async json(path) {
        const response = await fetch(this.url + path);
        if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
        return response.json();
    }

    async stop() {
        for (const child of this.#children) child.kill("SIGINT");
        const ended = this.#children.map(
            (child) => child.exitCode ?? new Promise((resolve) => child.once("exit", resolve)),
        );
        await Promise.race([
            Promise.all(ended),
            new Promise((resolve) => setTimeout(resolve, 15_000)),
        ]);
        for (const child of this.#children) if (child.exitCode === null) child.kill("SIGKILL");
    }
}

/** Pieces of the files of a kind, each under a name of its own. */
function documents(root, folders, kind) {
    const pieces = folders
        .map((folder) => join(root, folder))
        .flatMap((folder) =>
            readdirSync(folder)
                .filter((name) => kind.test(name))
                .sort()
                .map((name) => join(folder, name)),
        )
        .filter((path) => statSync(path).isFile())
        .flatMap((path) => {
            const text = readFileSync(path, "utf8");
            const count = Math.min(4, Math.ceil(text.length / DOCUMENT_BYTES));
            return Array.from({ length: count }, (_, at) => [
                `${at}-${basename(path)}`,
                text.slice(at * DOCUMENT_BYTES, (at + 1) * DOCUMENT_BYTES),
            ]);
        });
    return pieces.filter(([, text]) => text.length >= 1_000).slice(0, DOCUMENTS_MAX);
}
