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

for (const page of document.querySelectorAll("[data-reload]")) {
  setTimeout(() => location.reload(), 1000 * Number(page.dataset.reload));
}
