// Shows the document of all models, or the one of the model that is chosen. All addresses are relative to the page, so
// that it works behind a path prefix.
"use strict";

const chooser = document.getElementById("chooser");
const select = document.getElementById("model");
const asked = new URLSearchParams(location.search).get("model");
const addressOf = (name) => (name ? `models/${encodeURIComponent(name)}/openapi.json` : "openapi.json");
let key = "";

const ui = SwaggerUIBundle({
  dom_id: "#page",
  url: "openapi.json",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  validatorUrl: null,
  // The document of a model needs the key that was entered for its operations.
  requestInterceptor: (request) => {
    if (request.loadSpec && key) request.headers.Authorization = `Bearer ${key}`;
    return request;
  },
  onComplete: listWhenAllowed,
});

function show(name) {
  ui.specActions.updateUrl(addressOf(name));
  ui.specActions.download(addressOf(name));
}

async function list() {
  const answer = await fetch("models", key ? { headers: { Authorization: `Bearer ${key}` } } : {});
  chooser.hidden = !answer.ok;
  if (!answer.ok) return;
  const names = (await answer.json()).models.map((model) => model.name);
  select.replaceChildren(new Option("all models", ""), ...names.map((name) => new Option(name, name)));
  if (names.includes(asked)) {
    select.value = asked;
    show(asked);
  }
}

// Where keys are required, the models are asked for once there is one: a refused request would be an error in the log.
let listed = null;
function listWhenAllowed() {
  const scheme = ui.specSelectors.specJson().getIn(["components", "securitySchemes"]);
  const value = ui.authSelectors.authorized().getIn(["api_key", "value"]) || "";
  key = value;
  if (value === listed || (scheme && !value)) {
    chooser.hidden = Boolean(scheme) && !value;
    return;
  }
  listed = value;
  list();
}

ui.getSystem().getStore().subscribe(() => {
  if (ui.specSelectors.specJson().has("openapi")) listWhenAllowed();
});

select.addEventListener("change", () => {
  const address = new URL(location);
  if (select.value) address.searchParams.set("model", select.value);
  else address.searchParams.delete("model");
  address.hash = "";
  history.replaceState(null, "", address);
  show(select.value);
});
