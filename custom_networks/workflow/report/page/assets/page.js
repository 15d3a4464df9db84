"use strict";

// Tables sort by a click or a key on a heading.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.firstElementChild.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => {
        const cell = row.cells[column];
        return cell.dataset.value ?? cell.textContent.trim();
      };
      const compare = new Intl.Collator("en", { numeric: true }).compare;
      const isNumber = (text) => text !== "" && Number.isFinite(Number(text));
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [first, second] = [key(a), key(b)];
        if (isNumber(first) !== isNumber(second) && heading.classList.contains("number")) {
          return isNumber(first) ? -1 : 1; // what has no number stands last
        }
        const order = isNumber(first) && isNumber(second) ? Number(first) - Number(second) : compare(first, second);
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}

// The viewer is unpacked when it is first asked for; one is open at a time, since browsers give few WebGL contexts.
let library = null;
let close = () => {};

function unpacked(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
}

async function load() {
  const source = await unpacked(document.getElementById("niivue").textContent).text();
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  await new Promise((done, failed) => {
    const script = document.createElement("script");
    script.addEventListener("load", done);
    script.addEventListener("error", () => failed(new Error("the viewer cannot be loaded")));
    script.src = address;
    document.head.append(script);
  });
  URL.revokeObjectURL(address);
  return window.niivue;
}

function slider(controls, text, value, change) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  Object.assign(input, { type: "range", min: 0, max: 1, step: 0.01, value });
  input.addEventListener("input", () => change(Number(input.value)));
  label.append(text, input);
  controls.append(label);
  return input;
}

async function open(box) {
  close();
  if (!document.createElement("canvas").getContext("webgl2")) {
    throw new Error("the browser has no WebGL 2");
  }
  const content = JSON.parse(box.querySelector("script").textContent);
  const button = box.querySelector(".open");
  button.disabled = true;
  library ??= load();
  const { Niivue, NVImage } = await library;
  const stage = document.createElement("div");
  const canvas = document.createElement("canvas");
  const controls = document.createElement("div");
  stage.className = "stage";
  controls.className = "controls";
  canvas.tabIndex = 0;
  canvas.setAttribute("aria-label", `Viewer of ${box.dataset.label}: the sliders below move the slices`);
  stage.append(canvas);
  box.append(stage, controls);
  const viewer = new Niivue({
    backColor: [0, 0, 0, 1],
    crosshairColor: [1, 1, 1, 0.5],
    crosshairWidth: 0.3,
    crosshairWidthUnit: "percent",
    dragAndDropEnabled: false,
    isRadiologicalConvention: true,
    sagittalNoseLeft: true,
    show3Dcrosshair: false,
    multiplanarShowRender: 0,
    loadingText: "",
    logLevel: "error",
  });
  close = () => {
    viewer.cleanup();
    viewer.gl?.getExtension("WEBGL_lose_context")?.loseContext();
    stage.remove();
    controls.remove();
    button.hidden = button.disabled = false;
    close = () => {};
  };
  await viewer.attachToCanvas(canvas);
  const image = await NVImage.loadFromBase64({ base64: content.image, name: "image.nii.gz", colormap: "gray" });
  viewer.addVolume(image);
  const labels = [{ name: "", colour: [0, 0, 0] }, ...content.labels];
  const part = (index) => labels.map((label) => label.colour[index]);
  for (const mask of content.masks) {
    const volume = await NVImage.loadFromBase64({ base64: mask.data, name: `${mask.name}.nii.gz`, opacity: 0.5 });
    volume.setColormapLabel({
      R: part(0), G: part(1), B: part(2), A: labels.map((_, index) => (index ? 255 : 0)),
      I: labels.map((_, index) => index), labels: labels.map((label) => label.name),
    });
    viewer.addVolume(volume);
  }
  const show = content.masks.length > 1 ? [0, 0.5] : [0.5];
  const start = centre(viewer.volumes[viewer.volumes.length - 1]);
  ["Left to right", "Back to front", "Bottom to top"].forEach((text, axis) => {
    slider(controls, `Slice, ${text.toLowerCase()}`, start[axis], (value) => {
      viewer.scene.crosshairPos[axis] = value;
      viewer.drawScene();
    });
  });
  content.masks.forEach((mask, index) => {
    const set = (value) => viewer.setOpacity(index + 1, value);
    const name = mask.name[0].toUpperCase() + mask.name.slice(1);
    slider(controls, `${name}, opacity`, show[index], set);
    set(show[index]);
  });
  const solid = document.createElement("button");
  solid.type = "button";
  solid.textContent = "3D";
  solid.setAttribute("aria-pressed", "false");
  solid.addEventListener("click", () => {
    const on = solid.getAttribute("aria-pressed") === "false";
    solid.setAttribute("aria-pressed", String(on));
    viewer.setOpacity(0, on ? 0.08 : 1); // or it hides what lies inside
    viewer.setSliceType(on ? viewer.sliceTypeRender : viewer.sliceTypeMultiplanar);
  });
  const shut = document.createElement("button");
  shut.type = "button";
  shut.textContent = "Close";
  shut.addEventListener("click", () => {
    close();
    button.focus();
  });
  const buttons = document.createElement("div");
  buttons.append(solid, shut);
  controls.append(buttons);
  viewer.scene.crosshairPos = start;
  viewer.drawScene();
  button.hidden = true;
  canvas.focus({ preventScroll: true });
  box.dataset.ready = "true";
}

// Where the mask has most voxels, as a share of each axis.
function centre(volume) {
  const [, nx, ny, nz] = volume.dimsRAS;
  const counts = [new Float64Array(nx), new Float64Array(ny), new Float64Array(nz)];
  volume.img.forEach((value, index) => {
    if (value) {
      counts[0][index % nx] += 1;
      counts[1][Math.floor(index / nx) % ny] += 1;
      counts[2][Math.floor(index / (nx * ny))] += 1;
    }
  });
  return counts.map((count) => {
    const most = Math.max(...count);
    return most ? (count.indexOf(most) + 0.5) / count.length : 0.5;
  });
}

for (const box of document.querySelectorAll(".viewer")) {
  box.querySelector(".open").addEventListener("click", async () => {
    try {
      await open(box);
    } catch (error) {
      close();
      const note = document.createElement("p");
      note.className = "note";
      note.textContent = `The viewer cannot be shown here (${error.message}); the pictures above need no WebGL.`;
      box.replaceChildren(note);
    }
  });
}
