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
}
