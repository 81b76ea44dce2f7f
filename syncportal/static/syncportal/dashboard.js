// Keeps the dashboard current: asks for the board and the navigation's numbers again, and changes only what differs, so
// that focus, scroll positions and opened details stay. Without scripts the page shows the numbers of the moment it was loaded.
"use strict";
{
    const board = document.querySelector("[data-board]");
    const live = document.querySelector("[data-live]");
    const lost = document.querySelector("[data-lost]");
    const lostWords = document.querySelector("[data-lost-words]");
    const every = Number(board.dataset.refreshS) * 1000;
    let timer = 0;
    let waiting = null;
    let lastSeen = new Date();
    let asked = Date.now();
    const streams = () => document.documentElement.dataset.stream === "on";  // live.js tells what happens

    const sameKind = (one, other) =>
        one.nodeType === other.nodeType && one.nodeName === other.nodeName && one.id === other.id;

    const morphAttributes = (from, to) => {
        for (const { name } of Array.from(from.attributes)) {
            if (!to.hasAttribute(name) && !(name === "open" && from.nodeName === "DETAILS")) {
                from.removeAttribute(name);
            }
        }
        for (const { name, value } of to.attributes) {
            if (from.getAttribute(name) !== value) {
                from.setAttribute(name, value);
            }
        }
    };

    const morphChildren = (from, to) => {
        const wanted = Array.from(to.childNodes);
        let present = from.firstChild;
        for (const next of wanted) {
            // Something with a name that comes later is moved here; what stood here is looked at again.
            const named = next.id && from.querySelector(`:scope > #${CSS.escape(next.id)}`);
            if (named && named !== present) {
                from.insertBefore(named, present);
                morph(named, next);
            } else if (present && sameKind(present, next)) {
                const after = present.nextSibling;
                morph(present, next);
                present = after;
            } else if (present && !present.id && !next.id) {
                const after = present.nextSibling;
                present.replaceWith(next);
                present = after;
            } else {
                from.insertBefore(next, present);
            }
        }
        while (present) {
            const after = present.nextSibling;
            present.remove();
            present = after;
        }
    };

    const morph = (from, to) => {
        if (from.nodeType !== Node.ELEMENT_NODE) {
            if (from.data !== to.data) {
                from.data = to.data;
            }
            return;
        }
        morphAttributes(from, to);
        morphChildren(from, to);
    };

    const tellLost = (words) => {
        const clock = lastSeen.toLocaleTimeString([], { hour12: false });
        const text = `${words} What you see is from ${clock}.`;
        if (lostWords.textContent !== text) {
            lostWords.textContent = text;
        }
        lost.hidden = false;
        board.classList.add("board--stale");
    };

    const refresh = async () => {
        clearTimeout(timer);
        if (waiting) {
            return;
        }
        waiting = new AbortController();
        const limit = setTimeout(() => waiting.abort(), 15000);
        try {
            const answer = await fetch(location.href, {
                headers: { "HX-Request": "true" },
                cache: "no-store",
                redirect: "manual",
                signal: waiting.signal,
            });
            if (answer.type === "opaqueredirect" || answer.status === 403) {
                tellLost("You are not signed in any more; load the page again to go on.");
            } else if (!answer.ok) {
                tellLost("The server has trouble; trying again.");
            } else {
                const page = new DOMParser().parseFromString(await answer.text(), "text/html");
                const fresh = page.querySelector("[data-board]");
                if (fresh) {
                    morph(board, fresh);
                    for (const part of document.querySelectorAll("[data-nav]")) {  // its numbers; nothing is announced
                        morphChildren(part, page.querySelector(`[data-nav="${part.dataset.nav}"]`));
                    }
                    lastSeen = new Date();
                    lost.hidden = true;
                }
            }
        } catch {
            tellLost("The connection to the server is lost; trying again.");
        } finally {
            clearTimeout(limit);
            waiting = null;
            asked = Date.now();
            if (!document.hidden) {
                timer = setTimeout(refresh, streams() ? 2 * every : every);
            }
        }
    };

    // Something happened: look at once, and while much happens every now and then.
    document.addEventListener("live:moved", () => {
        clearTimeout(timer);
        timer = setTimeout(refresh, Math.max(0, every / 2 - (Date.now() - asked)));
    });

    document.addEventListener("visibilitychange", () => {
        if (document.hidden) {
            clearTimeout(timer);
        } else {
            refresh();
        }
    });
    window.addEventListener("online", refresh);
    window.addEventListener("offline", () => tellLost("The connection to the server is lost; trying again."));

    // A choice takes effect at once; without scripts the button does it.
    for (const select of document.querySelectorAll("select[data-submits]")) {
        select.addEventListener("change", () => {
            if (select.name === "remote") {
                select.form.elements.resource.value = "";
            }
            select.form.requestSubmit();
        });
    }

    document.documentElement.classList.add("has-scripts");
    live.hidden = false;
    timer = setTimeout(refresh, every);
}
