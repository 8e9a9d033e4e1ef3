// Shows the OpenAPI description that lies beside this page. Everything is built as nodes and text:
// nothing of the description is ever read as HTML.

const VERBS = ["get", "post", "put", "patch", "delete"];
const $ = (id) => document.getElementById(id);

function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return made;
}

// The little of Markdown that the descriptions use: `code`, **strong**, paragraphs.
function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`") && part.length > 2) return node("code", {}, part.slice(1, -1));
    if (part.startsWith("**") && part.length > 4) return node("strong", {}, part.slice(2, -2));
    return part;
  });
}
const prose = (text) => (text || "").split(/\n\s*\n/).filter(Boolean).map((p) => node("p", {}, inline(p)));

let description;

function followed(thing) {
  if (!thing || !thing.$ref) return thing;
  let target = description;
  for (const token of thing.$ref.slice(2).split("/")) {
    target = target[token.replaceAll("~1", "/").replaceAll("~0", "~")];
  }
  const { $ref, ...beside } = thing;
  return { ...target, ...beside };
}

// What a value must be, in words.
function kind(schema) {
  if (!schema) return "anything";
  if (schema.$ref) return schema.$ref.split("/").pop();
  const options = schema.anyOf || schema.oneOf;
  if (options) return [...new Set(options.map(kind))].join(" or ");
  const types = [schema.type].flat().filter(Boolean);
  if (!types.length) return schema.enum ? "one of" : "anything";
  return types.map((type) => {
    if (type === "array") return `list of ${kind(schema.items)}`;
    if (type === "object" && schema.additionalProperties?.type) return `object of ${kind(schema.additionalProperties)}`;
    return type === "string" && schema.format ? `string (${schema.format})` : type;
  }).join(" or ");
}

function rules(schema) {
  const said = [];
  const span = (least, most, unit) => {
    if (least == null && most == null) return;
    const words = least != null && most != null ? `${least} to ${most}` : least != null ? `at least ${least}` : `at most ${most}`;
    said.push(unit ? `${words} ${unit}` : words);
  };
  if (schema.enum) said.push(schema.enum.map((value) => JSON.stringify(value)).join(" · "));
  span(schema.minimum, schema.maximum, "");
  span(schema.minLength, schema.maxLength, "characters");
  span(schema.minItems, schema.maxItems, "items");
  span(schema.minProperties, schema.maxProperties, "members");
  if (schema.uniqueItems) said.push("each once");
  if (schema.pattern) said.push(schema.pattern);
  if (schema.default !== undefined) said.push(`default ${JSON.stringify(schema.default)}`);
  return said.join("; ");
}

// The objects that can be unfolded in a schema.
function inside(schema) {
  if (!schema) return [];
  if (schema.$ref || schema.properties) return [schema];
  const parts = [...(schema.anyOf || schema.oneOf || [])];
  if (schema.items) parts.push(schema.items);
  if (typeof schema.additionalProperties === "object") parts.push(schema.additionalProperties);
  return parts.flatMap(inside);
}

function unfolded(label, build) {
  const details = node("details", { class: "more" }, node("summary", {}, label));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(build());
  });
  return details;
}

function object(reference) {
  const schema = followed(reference);
  const made = node("div", { class: "schema" });
  made.append(...prose(schema.description).map((p) => (p.classList.add("muted"), p)));
  for (const [name, inner] of Object.entries(schema.properties || {})) {
    made.append(row(name, inner, (schema.required || []).includes(name)));
  }
  if (!schema.properties) made.append(node("p", { class: "rules" }, kind({ ...schema, $ref: undefined })));
  return made;
}

function row(name, schema, needed, about = "") {
  const text = about || schema.description || "";
  return node("div", { class: "row" },
    node("div", {}, node("span", { class: "name" }, name), needed && node("span", { class: "needed" }, "required")),
    node("div", {},
      node("div", {}, kind(schema)),
      text && node("div", { class: "muted" }, inline(text)),
      rules(schema) && node("div", { class: "rules" }, rules(schema)),
      inside(schema).map((part) => unfolded(part.$ref ? kind(part) : "members", () => object(part)))));
}

function shown(schema) {
  const parts = inside(schema);
  if (parts.length === 1 && parts[0] === schema) return object(schema);
  return node("div", {}, node("div", { class: "rules" }, kind(schema)), parts.map((part) => unfolded(kind(part), () => object(part))));
}

function code(text, label) {
  const button = node("button", { type: "button", "aria-label": `Copy ${label}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(button.previousSibling);
      button.textContent = "Press Ctrl+C";
    }
  });
  return node("figure", {}, node("pre", { tabindex: 0 }, text), button);
}

const base = () => new URL(description.servers[0].url, new URL("openapi.json", document.baseURI)).href;

function curl(verb, path, operation) {
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => name.toUpperCase());
  const lines = [`curl ${verb === "get" ? "" : `-X ${verb.toUpperCase()} `}${base()}${filled}`];
  lines.push("-H \"Authorization: Bearer $TOKEN\"", "-H 'x-team-id: TEAM'");
  const content = operation.requestBody?.content["application/json"];
  if (content?.example !== undefined) {
    lines.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(content.example).replaceAll("'", "'\\''")}'`);
  }
  return lines.join(" \\\n  ");
}

function answer(status, reference) {
  const response = followed(reference);
  const details = node("details", { class: "answer" },
    node("summary", {}, node("span", { class: `status ${status < 300 ? "post" : "delete"}` }, status), ...inline(response.description)));
  details.addEventListener("toggle", () => {
    if (!details.open || details.childElementCount > 1) return;
    for (const [name, header] of Object.entries(response.headers || {})) {
      details.append(row(name, header.schema || {}, false, header.description));
    }
    for (const [type, media] of Object.entries(response.content || {})) {
      details.append(node("p", { class: "mono" }, type), media.schema ? shown(media.schema) : "");
    }
  }, { once: false });
  return details;
}

function body(operation) {
  const given = operation.requestBody;
  if (!given) return [];
  return Object.entries(given.content).map(([type, media]) => [
    node("h4", {}, "Body ", node("span", { class: "chip" }, given.required ? type : `${type}, optional`)),
    shown(media.schema),
  ]);
}

function filled(verb, path, operation) {
  const parameters = (operation.parameters || []).map(followed);
  const places = { path: "Path", query: "Query", header: "Header fields" };
  return node("div", {},
    prose(operation.description),
    Object.entries(places).map(([place, title]) => {
      const own = parameters.filter((parameter) => parameter.in === place);
      return own.length ? [node("h4", {}, title), own.map((p) => row(p.name, p.schema || {}, p.required, p.description))] : [];
    }),
    body(operation),
    node("h4", {}, "Answers"),
    Object.entries(operation.responses).map(([status, response]) => answer(status, response)),
    node("h4", {}, "Try it"),
    code(curl(verb, path, operation), "the command"));
}

function card(verb, path, operation) {
  const details = node("details", { class: "operation", id: operation.operationId },
    node("summary", {},
      node("span", { class: `verb ${verb}` }, verb.toUpperCase()),
      node("span", { class: "path" }, path),
      node("span", { class: "about" }, inline((operation.summary || "").replace(/\.$/, "")))));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(filled(verb, path, operation));
  });
  return details;
}

function build() {
  const main = $("content");
  main.replaceChildren(node("h1", {}, description.info.title), ...prose(description.info.description));
  document.title = `${description.info.title}`;
  const sections = new Map();
  const entries = [];
  for (const { name, description: about } of description.tags) {
    const list = node("ul");
    const group = node("div", {}, node("h2", {}, name), list);
    const section = node("section", { "aria-label": name }, node("h2", {}, name), node("p", { class: "muted" }, about || ""));
    sections.set(name, { list, section, group });
    main.append(section);
    $("index").append(group);
  }
  for (const [path, item] of Object.entries(description.paths)) {
    for (const verb of VERBS.filter((verb) => item[verb])) {
      const operation = item[verb];
      const { list, section, group } = sections.get(operation.tags[0]);
      const details = card(verb, path, operation);
      const link = node("a", { href: `#${operation.operationId}` },
        node("span", { class: `verb ${verb}` }, verb.toUpperCase()), node("span", {}, inline((operation.summary || path).replace(/\.$/, ""))));
      const line = node("li", {}, link);
      list.append(line);
      section.append(details);
      const words = [verb, path, operation.summary, operation.description, operation.operationId].join(" ").toLowerCase();
      entries.push({ words, line, details, section, group });
    }
  }
  return entries;
}

function searchIn(entries) {
  const none = node("p", { class: "muted", hidden: true }, "Nothing has these words.");
  $("index").append(none);
  const search = () => {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const used = new Set();
    for (const entry of entries) {
      const fits = words.every((word) => entry.words.includes(word));
      entry.line.hidden = entry.details.hidden = !fits;
      if (fits) used.add(entry.group).add(entry.section);
    }
    for (const { group, section } of entries) {
      group.hidden = !used.has(group);
      section.hidden = !used.has(section);
    }
    none.hidden = used.size > 0;
  };
  $("search").addEventListener("input", search);
}

function goToFragment() {
  const id = decodeURIComponent(location.hash.slice(1));
  const target = id && $(id);
  for (const link of document.querySelectorAll("nav a")) {
    if (target && link.getAttribute("href") === `#${id}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.scrollIntoView();
  }
  openMenu(false);
}

function openMenu(open) {
  $("sidebar").classList.toggle("open", open);
  $("menu").setAttribute("aria-expanded", String(open));
}

function keepTheme() {
  const root = document.documentElement;
  const kept = (value) => { try { return value ? localStorage.setItem("docs-theme", value) : localStorage.getItem("docs-theme"); } catch { return null; } };
  if (kept()) root.dataset.theme = kept();
  $("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    kept(root.dataset.theme);
  });
}

async function start() {
  keepTheme();
  $("menu").addEventListener("click", () => openMenu(!$("sidebar").classList.contains("open")));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/input|textarea/i.test(event.target.tagName)) {
      event.preventDefault();
      openMenu(true);
      $("search").focus();
    } else if (event.key === "Escape") openMenu(false);
  });
  try {
    const response = await fetch("openapi.json");
    if (!response.ok) throw new Error(`status ${response.status}`);
    description = await response.json();
  } catch (error) {
    $("state").textContent = `The description could not be loaded (${error.message}). Reload the page to try again.`;
    return;
  }
  searchIn(build());
  addEventListener("hashchange", goToFragment);
  goToFragment();
}

start();
