// Listens for what happens elsewhere: parts of the page that declare `data-live` look again at once, and the outcomes of
// the person's own saves appear as a line on any page. Without a stream (or without this script) the parts go on asking
// at their own pace. What comes is only ever a hint and text: contents are asked for where they are protected.
"use strict";
{
    const place = document.querySelector("[data-live-url]");
    const GAP_MS = 1000;          // one part looks again at most this often
    const SLOW_MS = 10000;        // while the stream lives, the usual asking may wait this long
    const SILENT_MS = 40000;      // beats come every 15 s
    const ASK_MS = 5000;          // where there is no stream
    const AGAIN_MS = 60000;       // then a stream is tried again: the server may only have been too busy for one
    const SUCCESS_MS = 8000;
    const SHOWN = 3;
    const KEPT = 50;

    const stored = (name, fallback) => {
        try {
            return JSON.parse(sessionStorage.getItem(name)) ?? fallback;
        } catch {
            return fallback;
        }
    };
    const store = (name, value) => {
        try {
            sessionStorage.setItem(name, JSON.stringify(value));
        } catch {
            // A full or forbidden store costs the memory of other pages, nothing else.
        }
    };

    // ── Parts that look again ───────────────────────────────────────────────────────────────────────────────────────
    const lastLook = new Map();
    const waiting = new Set();
    let alive = false;

    const look = (id) => {
        const since = Date.now() - (lastLook.get(id) ?? 0);
        if (waiting.has(id)) {
            return;
        }
        waiting.add(id);
        setTimeout(() => {
            waiting.delete(id);
            const part = document.getElementById(id);
            if (part && part.matches("[hx-get]")) {
                htmx.trigger(part, "live");
            }
        }, Math.max(0, GAP_MS - since));
    };

    // A part names what concerns it: `record-42`, the beginning of an event's kind such as `sync`, or `any`.
    const concerns = (part, moved) => part.dataset.live.split(" ").some((word) =>
        word === "any" || (word.startsWith("record-")
            ? moved.records === null || moved.records.includes(Number(word.slice(7)))
            : moved.kinds.some((kind) => kind.startsWith(word))));

    const tellParts = (moved) => {
        for (const part of document.querySelectorAll("[data-live][id]")) {
            if (moved === null || concerns(part, moved)) {
                look(part.id);
            }
        }
    };

    document.addEventListener("htmx:beforeRequest", (event) => {
        const part = event.detail.elt;
        if (!part.matches("[data-live][id]")) {
            return;
        }
        const own = event.detail.requestConfig.triggeringEvent?.type === "live";
        const slow = Number(part.dataset.liveSlowMs ?? SLOW_MS);
        if (alive && !own && Date.now() - (lastLook.get(part.id) ?? 0) < slow) {
            event.preventDefault();
            return;
        }
        lastLook.set(part.id, Date.now());
    });

    // ── The person's own saves ──────────────────────────────────────────────────────────────────────────────────────
    const list = document.querySelector("[data-toasts]");
    const shape = document.querySelector("[data-toast-shape]");
    const ICONS = { success: "check", warning: "alert", error: "cross" };
    let sweeping = 0;

    const put = (element, text) => {
        if (element.textContent !== text) {
            element.textContent = text;
        }
    };

    const draw = (line, toast) => {
        line.className = `toast toast--${toast.tone in ICONS ? toast.tone : "info"}`;
        line.querySelector("use").setAttribute("href", `#i-${ICONS[toast.tone] ?? "info"}`);
        const link = line.querySelector("a");
        link.setAttribute("href", toast.url);
        put(link, toast.title);
        put(line.querySelector("[data-toast-text]"), toast.text);
        put(line.querySelector("[data-toast-about]"), toast.title);
    };

    const showToasts = () => {
        const now = Date.now();
        const here = (toast) => document.querySelector(`[data-live~="record-${toast.record}"]`) !== null;
        const toasts = stored("live.toasts", []).filter((toast) => toast.until > now && !here(toast));
        toasts.sort((one, other) => (one.tone === "success") - (other.tone === "success"));  // trouble is seen first
        store("live.toasts", toasts);
        const shown = toasts.slice(0, SHOWN);
        for (const line of list.querySelectorAll("[data-record]")) {
            if (!shown.some((toast) => String(toast.record) === line.dataset.record)) {
                line.remove();
            }
        }
        for (const toast of shown.reverse()) {
            let line = list.querySelector(`[data-record="${toast.record}"]`);
            if (line === null) {
                line = shape.content.firstElementChild.cloneNode(true);
                line.dataset.record = toast.record;
                draw(line, toast);
                list.prepend(line);
            } else {
                draw(line, toast);
            }
        }
        const more = place.querySelector("[data-toasts-more]");
        more.hidden = toasts.length <= SHOWN;
        put(more, toasts.length > SHOWN ? `and ${toasts.length - SHOWN} more of your saves` : "");
        clearTimeout(sweeping);
        if (toasts.length) {
            sweeping = setTimeout(showToasts, Math.max(100, Math.min(...toasts.map((toast) => toast.until)) - now));
        }
    };

    const keepToasts = (outcomes) => {
        const told = stored("live.told", []);
        const fresh = outcomes.filter((one) => Number.isInteger(one.id) && !told.includes(one.id));
        if (!fresh.length) {
            return;
        }
        store("live.told", [...told, ...fresh.map((one) => one.id)].slice(-4 * KEPT));
        const records = fresh.map((one) => one.record);
        const others = stored("live.toasts", []).filter((toast) => !records.includes(toast.record));
        const made = fresh.map((one) => ({
            ...one,
            url: String(one.url).startsWith("/") ? one.url : "",
            until: Date.now() + (one.tone === "success" ? SUCCESS_MS : 60 * SUCCESS_MS),
        }));
        store("live.toasts", [...made.reverse(), ...others].slice(0, KEPT));
        showToasts();
    };

    if (place) {
        list.addEventListener("click", (event) => {
            const line = event.target.closest("button") && event.target.closest("[data-record]");
            if (line) {
                const record = Number(line.dataset.record);
                store("live.toasts", stored("live.toasts", []).filter((toast) => toast.record !== record));
                showToasts();
            }
        });
    }

    // ── The stream, or asking ───────────────────────────────────────────────────────────────────────────────────────
    const url = place ? place.dataset.liveUrl : "";
    let source = null;
    let asking = 0;
    let watch = 0;
    let tryAgain = 0;

    const address = () => {
        const last = stored("live.last", null);
        return Number.isInteger(last) ? `${url}?last=${last}` : url;
    };
    const reached = (cursor) => {
        if (Number.isInteger(cursor)) {
            store("live.last", cursor);
        }
    };
    const tell = (moved) => {
        tellParts(moved);
        document.dispatchEvent(new CustomEvent("live:moved", { detail: moved }));
    };
    const setAlive = (now) => {
        alive = now;
        document.documentElement.dataset.stream = now ? "on" : "off";
    };

    const close = () => {
        clearTimeout(watch);
        clearTimeout(asking);
        asking = 0;
        if (source) {
            source.close();
            source = null;
        }
        setAlive(false);
    };

    const heard = (event) => {
        reached(event.lastEventId === "" ? null : Number(event.lastEventId));
        clearTimeout(watch);
        watch = setTimeout(() => {
            close();
            open();
        }, SILENT_MS);
    };

    const ask = async () => {
        try {
            const answer = await fetch(address(), {
                headers: { Accept: "application/json" }, cache: "no-store", redirect: "manual",
            });
            if (answer.type === "opaqueredirect" || answer.status === 403) {
                return;
            }
            if (answer.ok) {
                const told = await answer.json();
                reached(told.cursor);
                if (told.moved) {
                    tell(told.moved);
                }
                keepToasts(told.yours);
            }
        } catch {
            // Asked again below; the parts of the page say what they cannot show.
        }
        if (asking && !document.hidden && Date.now() < tryAgain) {
            asking = setTimeout(ask, ASK_MS);
        } else if (asking) {
            asking = 0;
            open();
        }
    };

    const open = () => {
        if (source || asking || document.hidden) {
            return;
        }
        source = new EventSource(address());
        source.addEventListener("ready", (event) => {
            heard(event);
            setAlive(true);
            tellParts(null);  // what happened between the making of the page and now
        });
        source.addEventListener("beat", heard);
        source.addEventListener("moved", (event) => {
            heard(event);
            tell(JSON.parse(event.data));
        });
        source.addEventListener("yours", (event) => {
            heard(event);
            keepToasts(JSON.parse(event.data));
        });
        source.addEventListener("error", () => {
            setAlive(false);
            if (source && source.readyState === EventSource.CLOSED) {
                close();  // the server has no streams, or none for us now
                tryAgain = Date.now() + AGAIN_MS * (1 + Math.random());
                asking = setTimeout(ask, 0);
            }
        });
    };

    if (place) {
        showToasts();
        open();
        document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
        window.addEventListener("pagehide", close);
        window.addEventListener("pageshow", (event) => {
            if (event.persisted) {
                showToasts();
                open();
            }
        });
    }
}
