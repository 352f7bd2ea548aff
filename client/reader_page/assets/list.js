// Work list: filter by patient, and go on asking while headers are still being read.
const rows = document.getElementById("rows");
const find = document.getElementById("find");
const status = document.getElementById("status");

function filter() {
  const wanted = find.value.trim().toLowerCase();
  let shown = 0;
  for (const row of rows.querySelectorAll("tr[data-patient]")) {
    row.hidden = !row.dataset.patient.includes(wanted);
    shown += row.hidden ? 0 : 1;
  }
  const unread = Number(rows.firstElementChild.dataset.unread);
  const count = `${shown} ${shown === 1 ? "study" : "studies"}${wanted ? " found" : ""}`;
  status.textContent = unread ? `${count}; ${unread} files still to look at` : count;
}

async function more() {
  while (Number(rows.firstElementChild.dataset.unread) > 0) {
    const answer = await fetch("studies");
    if (!answer.ok) {
      status.textContent = await answer.text();
      return;
    }
    const focused = document.activeElement?.getAttribute?.("href");
    rows.innerHTML = await answer.text();
    filter();
    if (focused?.startsWith("studies/")) rows.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

find.addEventListener("input", filter);
filter();
more().catch(() => { status.textContent = "The reader does not answer; is it still running?"; });
