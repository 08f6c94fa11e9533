// Enhances the pages of the console. Each page works without it.

const wait = 120; // milliseconds after the last key

for (const field of document.querySelectorAll("input[data-search]")) {
  const list = field.list;
  let timer, latest = 0;
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const number = ++latest;
      const response = await fetch(`${field.dataset.search}?q=${encodeURIComponent(field.value)}`);
      if (!response.ok || number !== latest) return;
      const names = await response.json();
      list.replaceChildren(...names.map((name) => {
        const option = document.createElement("option");
        option.value = name;
        return option;
      }));
    }, wait);
  });
}

for (const part of document.querySelectorAll("[data-slider]")) {
  const slider = part.querySelector("input"), field = part.form ?? part.closest("form");
  const text = field.elements.namedItem("as_of");
  part.hidden = false;
  slider.addEventListener("input", () => {
    text.value = slider.value === part.dataset.head ? "" : Number(slider.value).toLocaleString("en-US");
  });
  slider.addEventListener("change", () => field.requestSubmit());
}

for (const part of document.querySelectorAll("[data-fragment]")) {
  fetch(part.dataset.fragment, { headers: { accept: "text/html" } }).then(async (response) => {
    if (!response.ok) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const content = page.querySelector("[data-content]");
    if (content) part.replaceChildren(...content.childNodes);
  });
}

for (const part of document.querySelectorAll("[data-task]")) {
  const bar = part.querySelector("progress"), text = part.querySelector("[data-text]");
  const progress = new EventSource(part.dataset.task);
  progress.addEventListener("progress", (event) => {
    const task = JSON.parse(event.data);
    bar.max = task.total || 1;
    bar.value = task.total ? task.done : 0;
    text.textContent = task.text;
  });
  progress.addEventListener("end", () => {
    progress.close();
    location.reload();
  });
  progress.addEventListener("error", () => { // no stream: reload the page instead, until the task has ended
    progress.close();
    setTimeout(() => location.reload(), 2000);
  });
}
