// The viewer page of one case: three volumes in NiiVue, and the controls around them.
"use strict";

const settings = JSON.parse(document.getElementById("settings").textContent);
const byId = (id) => document.getElementById(id);
const AXES = ["x", "y", "z"];
const LIGHTER = 0.35; // share of white in the tone of the prediction

const viewer = new niivue.Niivue({
  dragAndDropEnabled: false,
  isRadiologicalConvention: true,
  sagittalNoseLeft: true,
  multiplanarShowRender: 0,
  multiplanarPadPixels: 6,
  showAllOrientationMarkers: true,
  crosshairColor: [1, 1, 1, 1],
  crosshairWidthUnit: "mm",
  fontColor: [1, 1, 1, 1],
  backColor: [0, 0, 0, 1],
  loadingText: "",
  logLevel: "error",
});

/** Volumes as they came, in the order in which NiiVue holds them. */
const layers = [];

function shade(colour, lighter) {
  return [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16);
    return Math.round(part + (255 - part) * lighter);
  });
}

/** Colours of the structures as NiiVue takes them; index 0 is the background, and clear. */
function colourTable(lighter) {
  const colours = [[0, 0, 0], ...settings.structures.map((each) => shade(each.colour, lighter))];
  return {
    R: colours.map((each) => each[0]),
    G: colours.map((each) => each[1]),
    B: colours.map((each) => each[2]),
    A: colours.map((_, index) => (index === 0 ? 0 : 255)),
    I: colours.map((_, index) => index),
    labels: ["", ...settings.structures.map((each) => each.name)],
  };
}

/** Keep the voxels of a label map that touch another label along an axis. */
function outline(labels) {
  const [nx, ny, nz] = settings.shape;
  const steps = [1, nx, nx * ny];
  const kept = new Uint8Array(labels.length);
  let at = 0;
  for (let z = 0; z < nz; z++) {
    for (let y = 0; y < ny; y++) {
      for (let x = 0; x < nx; x++, at++) {
        const label = labels[at];
        if (label === 0) continue;
        const other =
          (x > 0 && labels[at - steps[0]] !== label) || (x < nx - 1 && labels[at + steps[0]] !== label) ||
          (y > 0 && labels[at - steps[1]] !== label) || (y < ny - 1 && labels[at + steps[1]] !== label) ||
          (z > 0 && labels[at - steps[2]] !== label) || (z < nz - 1 && labels[at + steps[2]] !== label);
        if (other) kept[at] = label;
      }
    }
  }
  return kept;
}

async function load(key, options) {
  const element = byId(`data-${key}`);
  if (element === null) return;
  const volume = await niivue.NVImage.loadFromBase64({ base64: element.textContent, name: `${key}.nii.gz`, ...options });
  element.remove();
  layers.push({ key, volume, labels: volume.img });
}

/** Show, hide, outline and fade a label map as its controls say. */
function applyLayer(index) {
  const { key, volume, labels } = layers[index];
  const opacity = Number(byId(`${key}-opacity`).value);
  byId(`${key}-percent`).textContent = `${opacity} %`;
  const wanted = byId(`${key}-outline`).checked;
  const layer = layers[index];
  if (wanted && layer.outlined === undefined) layer.outlined = outline(labels);
  volume.img = wanted ? layer.outlined : labels;
  volume.opacity = byId(`${key}-shown`).checked ? opacity / 100 : 0;
  viewer.updateGLVolume();
}

function applyGrey() {
  const black = byId("black").valueAsNumber;
  const white = byId("white").valueAsNumber;
  if (!(black < white)) return;
  layers[0].volume.cal_min = black;
  layers[0].volume.cal_max = white;
  viewer.updateGLVolume();
}

function crosshair() {
  const voxel = viewer.frac2vox(viewer.scene.crosshairPos);
  return AXES.map((_, axis) => Math.min(settings.shape[axis] - 1, Math.max(0, Math.round(voxel[axis]))));
}

/** Write where the crosshair is and what lies there; the sliders follow it. */
function showLocation() {
  const voxel = crosshair();
  AXES.forEach((axis, order) => {
    byId(`slice-${axis}`).value = voxel[order] + 1;
    byId(`at-${axis}`).textContent = `${voxel[order] + 1} of ${settings.shape[order]}`;
  });
  const at = voxel[0] + settings.shape[0] * (voxel[1] + settings.shape[1] * voxel[2]);
  const position = viewer.frac2mm(viewer.scene.crosshairPos);
  byId("at-position").textContent = [0, 1, 2].map((axis) => position[axis].toFixed(1)).join(", ");
  const header = layers[0].volume.hdr;
  const grey = layers[0].labels[at] * (header.scl_slope || 1) + (header.scl_inter || 0);
  byId("at-image").textContent = String(Number(grey.toPrecision(5)));
  for (const { key, labels } of layers.slice(1)) {
    const label = labels[at];
    byId(`at-${key}`).textContent = label === 0 ? "background" : settings.structures[label - 1].name;
  }
}

/** Give the crosshair two pixels: NiiVue wants its width in mm, and drops lines thinner than a pixel. */
function fitCrosshair(planes) {
  const [x, y, z] = settings.shape.map((size, axis) => size * settings.spacing_mm[axis]);
  const [width, height] = [[x, y], [x, z], [y, z], [2 * x + y, Math.max(y, z)]][planes];
  const canvas = byId("canvas");
  viewer.opts.crosshairWidth = 2 * Math.max(width / canvas.clientWidth, height / canvas.clientHeight);
}

function moveTo(axis, index) {
  const voxel = crosshair();
  voxel[axis] = index;
  viewer.scene.crosshairPos = viewer.vox2frac(voxel);
  viewer.drawScene();
  showLocation();
}

function connect() {
  AXES.forEach((axis, order) => {
    byId(`slice-${axis}`).addEventListener("input", (event) => moveTo(order, Number(event.target.value) - 1));
  });
  byId("planes").addEventListener("change", (event) => {
    fitCrosshair(Number(event.target.value));
    viewer.setSliceType(Number(event.target.value));
  });
  layers.slice(1).forEach(({ key }, order) => {
    for (const what of ["shown", "outline", "opacity"]) {
      byId(`${key}-${what}`).addEventListener("input", () => applyLayer(order + 1));
    }
    applyLayer(order + 1);
  });
  for (const [id, value] of [["black", settings.black], ["white", settings.white]]) {
    byId(id).value = value;
    byId(id).addEventListener("input", applyGrey);
  }
  byId("canvas").addEventListener("pointerup", () => {
    // A drag with the right button has changed the contrast
    byId("black").value = Number(layers[0].volume.cal_min.toPrecision(4));
    byId("white").value = Number(layers[0].volume.cal_max.toPrecision(4));
  });
  viewer.onLocationChange = showLocation;
}

async function start() {
  await viewer.attachToCanvas(byId("canvas"));
  await load("image", { colormap: "gray", cal_min: settings.black, cal_max: settings.white });
  await load("prediction", { opacity: 0.5 });
  await load("reference", { opacity: 1 });
  layers.slice(1).forEach(({ key, volume }) => {
    const apart = key === "prediction" && layers.length > 2;
    volume.setColormapLabel(colourTable(apart ? LIGHTER : 0));
  });
  for (const { volume } of layers) viewer.addVolume(volume);
  viewer.setSliceType(viewer.sliceTypeMultiplanar);
  fitCrosshair(viewer.sliceTypeMultiplanar);
  connect();
  settings.start.forEach((index, axis) => moveTo(axis, index));
  document.body.dataset.state = "ready";
}

start().catch((error) => {
  byId("failure").hidden = false;
  byId("failure").textContent = `The volumes cannot be shown: ${error.message || error}. The page needs WebGL 2.`;
  document.body.dataset.state = "failed";
});
