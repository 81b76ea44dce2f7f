// The result of a merge, shown while it is chosen. Without this, "Show the result first" does the same on the server.
"use strict";
{
    const form = document.querySelector("form[data-decide]");

    const typedText = (holder) => {
        const input = holder.querySelector("input, select, textarea");
        if (input.type === "checkbox") {
            return input.checked ? "Yes" : "No";
        }
        return input.tagName === "SELECT" ? input.selectedOptions[0].text : input.value;
    };

    const show = (pick) => {
        const result = pick.querySelector("[data-result]");
        const chosen = pick.querySelector("input[type=radio]:checked");
        if (!result) {
            return;
        }
        const hint = (text) => {
            const note = document.createElement("span");
            note.className = "diff__absent";
            note.textContent = text;
            result.replaceChildren(note);
        };
        if (!chosen) {
            hint("not chosen yet");
        } else if (chosen.value === "value") {
            const text = typedText(pick.querySelector("[data-typed]"));
            if (text.trim() === "") {
                hint("empty");
            } else {
                result.textContent = text;
            }
        } else {
            const side = pick.querySelector(`[data-value=${chosen.value}]`).cloneNode(true);
            result.replaceChildren(...side.childNodes);
        }
        pick.classList.toggle("pick--undecided", "must" in pick.dataset && !chosen);
    };

    const count = () => {
        const left = form.querySelectorAll("[data-must]:not(:has(input[type=radio]:checked))").length;
        const note = form.querySelector("[data-to-choose]");
        if (note) {
            const text = left === 0 ? "Every field is decided."
                : left === 1 ? "1 field still needs a choice." : `${left} fields still need a choice.`;
            if (note.textContent !== text) {
                note.textContent = text;
            }
        }
    };

    const update = (event) => {
        const pick = event.target.closest("[data-pick]");
        if (!pick) {
            return;
        }
        if (event.target.closest("[data-typed]")) {
            pick.querySelector("input[type=radio][value=value]").checked = true;
        }
        show(pick);
        count();
    };

    if (form) {
        form.addEventListener("input", update);
        form.addEventListener("change", update);
        window.addEventListener("pageshow", () => {
            form.querySelectorAll("[data-pick]").forEach(show);
            count();
        });
        // Enter in a typed value would press the first button, "Use remote": it must decide nothing.
        form.addEventListener("keydown", (event) => {
            if (event.key === "Enter" && event.target.matches("input:not([type=submit])")) {
                event.preventDefault();
            }
        });
        const wrong = form.querySelector(".pick--wrong input");
        if (wrong) {
            wrong.focus();
        }
    }
}
