/* The architecture while it is used: what is to go is drawn red here, on every move of the threshold, without the server. */
(function () {
  "use strict";

  const now = { places: null, live: null, selection: {}, hover: -1, faded: null, text: "", next: 0, match: -1, hits: [], scale: 1,
                frame: 0, of: new Map() };
  const $ = (id) => document.getElementById(id);
  const plot = () => document.querySelector("#architecture-graph .js-plotly-plot");
  const set = (id, data) => window.dash_clientside.set_props(id, { data });
  const no = () => window.dash_clientside.no_update;

  /* Share of the units of a place that is to go: the mean over its boxes, as onnxprune.drawing.share_gone has it. */
  function share(place) {
    const gone = (now.live && now.live.gone) || {}, units = (now.places && now.places.units) || {};
    let sum = 0, boxes = 0;
    for (const groups of place.groups) {
      if (!groups.length) continue;
      let mine = 0;
      for (const name of groups) mine += units[name] ? Math.min((gone[name] || 0) / units[name], 1) : 0;
      sum += mine / groups.length;
      boxes += 1;
    }
    return boxes ? sum / boxes : 0;
  }

  /* Our own layer in the plot, below its numbers: paths that are cheaper to change than traces. */
  function layer(gd) {
    const scatter = gd.querySelector(".scatterlayer");
    if (!scatter) return null;
    let found = scatter.querySelector(".architecture-live");
    if (!found) {
      const make = (name, attributes, into) => {
        const node = document.createElementNS("http://www.w3.org/2000/svg", name);
        Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
        into.appendChild(node);
        return node;
      };
      found = make("g", { class: "architecture-live" }, scatter);
      const pattern = make("pattern", {
        id: "architecture-hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)",
      }, make("defs", {}, found));
      make("rect", { class: "ground", width: 5, height: 5 }, pattern);
      make("rect", { class: "stripe", width: 1.6, height: 5 }, pattern);
      for (const name of ["gone", "linked", "selected", "found"]) make("path", { class: name, "data-live": name }, found);
    }
    const numbers = [...scatter.querySelectorAll(".trace")].find((trace) => trace.querySelector(".textpoint"));
    if (numbers && found.nextSibling !== numbers) scatter.insertBefore(found, numbers);
    return found;
  }

  function rectangle(gd, x, y, width, height, around) {
    const across = gd._fullLayout.xaxis, down = gd._fullLayout.yaxis;
    const left = across.l2p(x) - around, right = across.l2p(x + width) + around;
    const top = down.l2p(y) - around, bottom = down.l2p(y + height) + around;
    return `M${left.toFixed(1)} ${top.toFixed(1)}H${right.toFixed(1)}V${bottom.toFixed(1)}H${left.toFixed(1)}Z`;
  }

  /* Everything that changes without the server, in one go. */
  function draw() {
    now.frame = 0;
    const gd = plot();
    if (!gd || !gd._fullLayout || !gd._fullLayout.xaxis || !now.places) return;
    const drawn = layer(gd), all = now.places.places;
    if (!drawn) return;
    const marked = (numbers, around) => numbers.filter((n) => all[n]).map((n) => rectangle(gd, ...all[n].box, around)).join("");
    const red = all.map((place) => {
      const part = place.kind === "join" || place.kind === "end" ? 0 : share(place);
      if (part <= 0) return "";
      const [x, y, width, height] = place.box, kept = width * place.kept, lost = Math.max(kept * part, 1.5);
      return rectangle(gd, x + kept - lost, y, lost, height, 0);
    }).join("");
    const group = now.selection.group, none = { made: [], carried: [] };
    const chosen = now.of.get(group) || none;
    const over = now.hover >= 0 ? all[now.hover] : null;
    const hovered = over && over.groups[0].length ? now.of.get(over.groups[0][0]) : null;
    const linked = new Set([...(hovered || chosen).carried, ...(hovered || chosen).made]);
    const lines = {
      gone: red,
      linked: marked([...linked].filter((n) => !chosen.made.includes(n)), 3),
      selected: marked(chosen.made, 2.5),
      found: marked(now.match >= 0 && now.hits.length ? [now.hits[now.match]] : now.hits, 5),
    };
    for (const [name, path] of Object.entries(lines)) drawn.querySelector(`[data-live=${name}]`).setAttribute("d", path);
    if (now.pressed !== group || now.buttons !== now.places) {
      now.pressed = group;
      now.buttons = now.places;
      document.querySelectorAll("#architecture-groups [data-group]").forEach((button) => {
        const on = button.dataset.group === group;
        if (on) button.scrollIntoView({ block: "nearest", inline: "nearest" });
        button.setAttribute("aria-pressed", String(on));
      });
    }
    words(gd);
  }

  /* What goes, in the hovers: plotly reads these rows when it shows one. */
  function words(gd) {
    const hits = (gd._fullData || []).find((trace) => trace.name === "hits");
    if (!hits || !hits.customdata) return;
    const told = now.places.places.map((place) => {
      const part = share(place);
      if (!part) return "";
      let count = 0, of = 0;
      place.groups.flat().forEach((name) => { count += (now.live.gone || {})[name] || 0; of += now.places.units[name] || 0; });
      return `<br><b>to be removed: ${count.toLocaleString("en")} of ${of.toLocaleString("en")} ${place.word}</b> (${(100 * part).toFixed(1)}%)`;
    });
    for (const row of hits.customdata) row[2] = told[row[0]] || "";
  }

  function soon() {
    if (!now.frame) now.frame = requestAnimationFrame(draw);
  }

  function fade() {
    const gd = plot();
    if (!gd || !gd.data) return;
    const kinds = gd.data.map((trace, index) => [trace.name, index]).filter(([name]) => name && name.startsWith("kind "));
    const opacity = kinds.map(([name]) => (!now.faded || name === "kind " + now.faded || name === "kind join" ? 1 : 0.14));
    if (kinds.length) window.Plotly.restyle(gd, { opacity }, kinds.map(([, index]) => index));
    document.querySelectorAll("#architecture-legend [data-kind]").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.kind === now.faded));
    });
  }

  /* Layers by name: those that have the text in theirs, in the order of the model. */
  function find(text, step) {
    const wanted = (text || "").trim().toLowerCase();
    now.hits = !wanted || !now.places ? [] : now.places.places
      .map((place, number) => [place, number])
      .filter(([place]) => place.names.some((name) => name.toLowerCase().includes(wanted)) ||
                           place.groups.flat().some((name) => name.toLowerCase().includes(wanted)))
      .map(([, number]) => number);
    if (now.text !== wanted) now.match = -1;
    now.text = wanted;
    if (now.hits.length && step) now.match = (now.match + step + now.hits.length + (now.match < 0 && step < 0 ? 1 : 0)) % now.hits.length;
    const told = $("architecture-matches");
    $("architecture-found").hidden = !wanted;
    if (told) told.textContent = !wanted ? "" : now.hits.length ? `${Math.max(now.match, 0) + 1} of ${now.hits.length}` : "no layer";
    if (now.hits.length) reveal(now.hits[Math.max(now.match, 0)]);
    if (now.hits.length && step) {
      const groups = now.places.places[now.hits[now.match]].groups[0];
      if (groups.length) window.onnxprune.select({ group: groups[0] });
    }
    soon();
  }

  function reveal(number) {
    const area = $("architecture-scroll"), [, y, , height] = now.places.places[number].box;
    if (!area) return;
    if (y < area.scrollTop || y + height > area.scrollTop + area.clientHeight) {
      area.scrollTo({ top: Math.max(y + height / 2 - area.clientHeight / 2, 0), behavior: "smooth" });
    }
  }

  function walk(step) {
    const buttons = [...document.querySelectorAll("#architecture-groups [data-group]")];
    if (!buttons.length) return;
    const at = buttons.findIndex((button) => button.dataset.group === now.selection.group);
    const next = at < 0 ? (step > 0 ? 0 : buttons.length - 1) : (at + step + buttons.length) % buttons.length;
    window.onnxprune.select({ group: buttons[next].dataset.group });
  }

  function pressed(event) {
    const point = event.points && event.points[0];
    if (!point || !point.customdata) return;
    const [number, repeat] = point.customdata;
    if (number === -1) {
      const open = new Set(now.open || []);
      if (open.has(repeat)) open.delete(repeat); else open.add(repeat);
      now.open = [...open].sort((a, b) => a - b);
      set("architecture-open", now.open);
      return;
    }
    const place = now.places.places[number], all = place.groups.flat();
    if (!all.length) {
      window.onnxprune.toast({ kind: "info", text: `${place.names[0]}: nothing of it can be removed.`, hint: "" });
      return;
    }
    const at = all.indexOf(now.selection.group); // a further click goes to the next group of the box
    window.onnxprune.select({ group: all[(at + 1) % all.length] });
  }

  function hovered(number) {
    if (now.hover === number) return;
    now.hover = number;
    soon();
  }

  /* Listeners of a plot that was just made, and of the frame that it stands in. The plot comes with Plotly, later. */
  function attach() {
    const gd = plot();
    if ($("architecture-graph") && !(gd && gd.on && gd.data)) {
      window.clearTimeout(now.waits);
      now.waits = window.setTimeout(() => { attach(); soon(); }, 50);
    } else if (gd && !gd.__architectured) {
      gd.__architectured = true;
      gd.on("plotly_click", pressed);
      gd.on("plotly_hover", (event) => hovered(event.points[0].customdata ? event.points[0].customdata[0] : -1));
      gd.on("plotly_unhover", () => hovered(-1));
      gd.on("plotly_afterplot", () => {
        soon();
        if (now.faded && gd.__faded !== now.places) { gd.__faded = now.places; fade(); }
      });
    }
    const area = $("architecture-scroll");
    if (area && !area.__watched) {
      area.__watched = true;
      new ResizeObserver(measure).observe(area);
    }
    measure();
  }

  function measure() {
    const area = $("architecture-scroll");
    if (!area || area.clientWidth < 50) return;
    const width = Math.floor((area.clientWidth - 2) / 20) * 20, height = Math.floor(area.clientHeight / 20) * 20;
    const size = { width, height, scale: now.scale };
    const key = JSON.stringify(size);
    if (key !== now.size) {
      now.size = key;
      set("architecture-size", size);
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest ? event.target.closest(".panel-architecture .architecture-tools button, .architecture button") : null;
    if (!button) return;
    if (button.dataset.group) window.onnxprune.select({ group: button.dataset.group });
    else if (button.dataset.kind) { now.faded = now.faded === button.dataset.kind ? null : button.dataset.kind; fade(); }
    else if (button.dataset.zoom) {
      const gd = plot(), how = button.dataset.zoom;
      now.scale = how === "fit" ? 1 : Math.min(Math.max(now.scale * (how === "in" ? 1.25 : 0.8), 0.5), 3);
      if (how === "fit" && gd && gd.layout && gd.layout.meta) {
        window.Plotly.relayout(gd, { "xaxis.range": [0, gd.layout.meta.width], "yaxis.range": [gd.layout.meta.height, 0] });
      }
      measure();
    } else if (button.id === "architecture-previous") walk(-1);
    else if (button.id === "architecture-next") walk(1);
    else if (button.id === "architecture-before") find(now.text, -1);
    else if (button.id === "architecture-after") find(now.text, 1);
  });

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.architecture = {
    /* The step, and the data that scores are of: only when they changed. */
    focus(selection, before) {
      setTimeout(attach, 0);
      const wanted = selection && selection.step !== null && selection.step !== undefined
        ? { step: selection.step, data: selection.data || null } : null;
      return JSON.stringify(wanted) === JSON.stringify(before || null) ? no() : wanted;
    },

    follow(places, live, selection, asked) {
      const changed = (window.dash_clientside.callback_context.triggered || []).map((t) => t.prop_id.split(".")[0]);
      if (places && places !== now.places) {
        now.places = places;
        now.hover = -1;
        now.of = new Map((places.groups || []).map((name) => [name, { made: [], carried: [] }]));
        places.places.forEach((place, number) => {
          for (const name of [...place.groups.flat(), ...place.also]) {
            const known = now.of.get(name);
            if (known && !known.made.includes(number)) known.made.push(number);
          }
          for (const name of place.carries) if (now.of.has(name)) now.of.get(name).carried.push(number);
        });
      }
      now.live = live;
      now.selection = selection || {};
      if (changed.includes("find") && asked) {
        const step = asked.next > now.next ? 1 : 0;
        now.next = asked.next || 0;
        find(asked.text, step);
      } else if (changed.includes("architecture-places") && now.text) find(now.text, 0);
      if (changed.includes("selection") && selection && now.of.has(selection.group)) {
        const made = now.of.get(selection.group).made;
        if (made.length) reveal(made[0]);
      }
      setTimeout(() => { attach(); now.buttons = null; soon(); }, 0);
      return no();
    },
  };
})();
