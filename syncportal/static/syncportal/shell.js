// Small comforts of the shell; every page works without them.
"use strict";
{
    // A menu closes on Escape, on a click elsewhere and when another one opens.
    const openMenus = () => Array.from(document.querySelectorAll("details.menu[open]"));

    document.addEventListener("click", (event) => {
        for (const menu of openMenus()) {
            if (!menu.contains(event.target)) {
                menu.open = false;
            }
        }
    });

    document.addEventListener("keydown", (event) => {
        if (event.key === "Escape") {
            for (const menu of openMenus()) {
                menu.open = false;
                menu.querySelector("summary").focus();
            }
            return;
        }
        const typing = event.target.closest("input, textarea, select, [contenteditable]");
        const search = document.querySelector("[data-slash-focus]");
        if (event.key === "/" && !typing && search && !event.ctrlKey && !event.metaKey && !event.altKey) {
            event.preventDefault();
            search.focus();
            search.select();
        }
    });

    // The server shows times in the viewer's zone; it learns it from here.
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (zone && !document.cookie.split("; ").includes(`zone=${zone}`)) {
        document.cookie = `zone=${zone}; path=/; max-age=31536000; SameSite=Lax${location.protocol === "https:" ? "; Secure" : ""}`;
    }

    // A second click on a button that is at work does nothing.
    document.addEventListener("submit", (event) => {
        const form = event.target.closest("form[data-once]");
        if (!form) {
            return;
        }
        if (form.dataset.sent) {
            event.preventDefault();
        }
        form.dataset.sent = "1";
    });
    window.addEventListener("pageshow", () => {
        for (const form of document.querySelectorAll("form[data-once]")) {
            delete form.dataset.sent;
        }
    });
}
