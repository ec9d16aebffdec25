// Three planes of a case by niivue, which comes as the module of ipyniivue's Jupyter widget. The widget is given what
// Jupyter would give it, a model in the sense of anywidget's front-end protocol, and never knows the difference.
"use strict";
const Viewer = (() => {
  const $ = (id) => document.getElementById(id);
  const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const HEADER = 352; // bytes of a NIfTI-1 header with its empty extension
  let niivue = null;
  let shown = null;

  async function inflated(packed) {
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  class Model {
    constructor(values, manager) {
      this.values = values;
      this.listeners = {};
      this.widget_manager = manager;
    }
    get(name) {
      return this.values[name];
    }
    set(name, value) {
      this.values[name] = value;
    }
    save_changes() {}
    send_sync_message() {} // its presence keeps voxels from being sent back: there is nobody to send them to
    send({ event, data }) {
      if (event === "location_change") moved(data.frac);
    }
    on(name, listener) {
      (this.listeners[name] ??= []).push(listener);
    }
    off(name, listener) {
      this.listeners[name] = listener ? (this.listeners[name] ?? []).filter((one) => one !== listener) : [];
    }
    change(name, value) {
      this.set(name, value);
      for (const listener of this.listeners[`change:${name}`] ?? []) listener();
    }
    tell(type, ...data) {
      for (const listener of this.listeners["msg:custom"] ?? []) listener({ type, data }, []);
    }
  }

  const volumes = new Map();
  const manager = { get_model: async (name) => volumes.get(name) };
  let last = 0;

  // A volume model and the reference by which the widget asks for it.
  function volumeModel(name, file, values) {
    const id = `volume-${++last}_py`;
    const model = new Model({
      id, name: `${name}.nii`, path: {}, url: "", data: file, paired_img_path: {}, paired_img_url: "",
      paired_img_data: null, colormap: "gray", opacity: 1, cal_min: 0, cal_max: 255, cal_min_neg: NaN,
      cal_max_neg: NaN, colormap_negative: "", colorbar_visible: false, frame_4d: 0, colormap_label: null,
      colormap_type: 0, colormap_invert: false, modulation_image: null, modulate_alpha: 0, ...values,
    }, manager);
    volumes.set(id, model);
    return [`IPY_MODEL_${id}`, model];
  }

  // Bytes of a NIfTI-1 file (https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h), unsigned 8-bit, with sform.
  function nifti(voxels, shape, affine) {
    const file = new Uint8Array(HEADER + voxels.length);
    const header = new DataView(file.buffer);
    header.setInt32(0, 348, true);
    [3, ...shape, 1, 1, 1, 1].forEach((size, n) => header.setInt16(40 + 2 * n, size, true));
    header.setInt16(70, 2, true);
    header.setInt16(72, 8, true);
    const spacing = [0, 1, 2].map((axis) => Math.hypot(...[0, 1, 2].map((row) => affine[row][axis])));
    [1, ...spacing, 1, 1, 1, 1].forEach((size, n) => header.setFloat32(76 + 4 * n, size, true));
    header.setFloat32(108, HEADER, true);
    header.setFloat32(112, 1, true);
    header.setUint8(123, 2);
    header.setInt16(254, 1, true);
    for (let row = 0; row < 3; row++)
      for (let n = 0; n < 4; n++) header.setFloat32(280 + 16 * row + 4 * n, affine[row][n], true);
    file.set([0x6e, 0x2b, 0x31, 0], 344);
    file.set(voxels, HEADER);
    return file;
  }

  // Greys of the picture that holds all slices side by side.
  async function greysOf({ jpeg, shape, columns, tile }) {
    const picture = await createImageBitmap(new Blob([bytesOf(jpeg)], { type: "image/jpeg" }));
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    const pixels = context.getImageData(0, 0, picture.width, picture.height).data;
    const voxels = new Uint8Array(shape[0] * shape[1] * shape[2]);
    let at = 0;
    for (let k = 0; k < shape[2]; k++)
      for (let j = 0; j < shape[1]; j++) {
        const y = Math.floor(k / columns) * tile[1] + j;
        let from = 4 * (y * picture.width + (k % columns) * tile[0]);
        for (let i = 0; i < shape[0]; i++, from += 4) voxels[at++] = pixels[from];
      }
    return voxels;
  }

  function colours(tissues) {
    const lut = [0, 0, 0, 0, ...tissues.flatMap(({ rgb }) => [...rgb, 255])];
    return { lut, min: 0, max: tissues.length, labels: ["", ...tissues.map(({ name }) => name)] };
  }

  // For each of x, y and z: the voxel axis nearest to it, and whether that runs towards R, A and S.
  function axesOf({ affine, shape }) {
    const free = [0, 1, 2];
    const order = [];
    const pairs = [0, 1, 2].flatMap((world) => [0, 1, 2].map((axis) => [world, axis]));
    const spacing = free.map((axis) => Math.hypot(...[0, 1, 2].map((row) => affine[row][axis])));
    const size = ([world, axis]) => Math.abs(affine[world][axis]) / spacing[axis];
    for (const [world, axis] of pairs.sort((one, other) => size(other) - size(one))) {
      if (order[world] || !free.includes(axis)) continue;
      free.splice(free.indexOf(axis), 1);
      order[world] = { axis, count: shape[axis], forward: affine[world][axis] > 0 };
    }
    return order;
  }

  const sliders = () => [...document.querySelectorAll("#viewer input[data-axis]")];

  // frac: the crosshair from 0 to 1 along x, y and z.
  function moved(frac) {
    if (!shown) return;
    const voxel = [0, 0, 0];
    sliders().forEach((slider, world) => {
      const { axis, count, forward } = shown.axes[world];
      const place = Math.min(count - 1, Math.max(0, Math.floor(frac[world] * count)));
      slider.value = place;
      slider.nextElementSibling.textContent = ` ${place + 1}/${count}`;
      voxel[axis] = forward ? place : count - 1 - place;
    });
    const [i, j, k] = voxel;
    const value = shown.labels[i + shown.shape[0] * (j + shown.shape[1] * k)];
    const mm = [0, 1, 2].map((row) => shown.affine[row][3] + voxel.reduce((sum, n, axis) => sum + shown.affine[row][axis] * n, 0));
    const letters = ["LR", "PA", "IS"].map((pair, n) => `${pair[+(mm[n] > 0)]} ${Math.abs(mm[n]).toFixed(1)}`);
    $("where").textContent = `${letters.join(", ")} mm: ${value ? shown.tissues[value - 1].name : "no label"}`;
  }

  function place() {
    const frac = sliders().map((slider, world) => (Number(slider.value) + 0.5) / shown.axes[world].count);
    niivue.change("scene", { crosshairPos: frac });
    niivue.tell("draw_scene");
    moved(frac);
  }

  async function start(references) {
    const source = await inflated(bytesOf($("viewer-module").textContent));
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const { default: widget } = await import(address);
    const opts = { sliceType: 3, isRadiologicalConvention: true, sagittalNoseLeft: true, multiplanarShowRender: 0,
      backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 1, 0.5], crosshairWidth: 0.4,
      crosshairWidthUnit: "mm", crosshairGap: 8, fontColor: [1, 1, 1, 1], fontMinPx: 16, show3Dcrosshair: false, isColorbar: false };
    niivue = new Model({ opts, height: 480, volumes: references, meshes: [], background_masks_overlays: false,
      draw_lut: null, draw_opacity: 0.8, draw_fill_overwrites: true, graph: null, scene: null,
      overlay_outline_width: 0, overlay_alpha_shader: 1 }, manager);
    await widget.initialize({ model: niivue });
    await widget.render({ model: niivue, el: $("viewer-canvas") });
    const canvas = document.querySelector("#viewer-canvas canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "Three planes with labels; the sliders below move through them");
    URL.revokeObjectURL(address);
  }

  function hasWebGl() {
    return Boolean(document.createElement("canvas").getContext("webgl2"));
  }

  return {
    isOpen: () => $("viewer").open,
    close: () => $("viewer").close(),
    async open(name, element, tissues) {
      if (!hasWebGl()) throw new Error("it has no WebGL 2");
      $("viewer-title").textContent = name;
      if (!$("viewer").open) $("viewer").showModal();
      $("where").textContent = "Unpacking …";
      const preview = JSON.parse(element.textContent);
      const [greys, labels] = await Promise.all([greysOf(preview), inflated(bytesOf(preview.labels))]);
      const opacity = Number($("opacity").value) / 100;
      const lut = colours(tissues);
      const [image] = volumeModel("image", nifti(greys, preview.shape, preview.affine), {});
      const [overlay, model] = volumeModel("labels", nifti(labels, preview.shape, preview.affine), {
        opacity, cal_max: lut.max, colormap_label: lut });
      shown = { ...preview, labels, tissues, axes: axesOf(preview), model };
      if (niivue) niivue.change("volumes", [image, overlay]);
      else await start([image, overlay]);
      for (const old of [...volumes.keys()].slice(0, -2)) volumes.delete(old);
      sliders().forEach((slider, world) => {
        slider.max = shown.axes[world].count - 1;
        slider.value = Math.floor(shown.axes[world].count / 2);
      });
      place();
      document.documentElement.dataset.viewer = name;
    },
    listen() {
      $("viewer-close").addEventListener("click", () => $("viewer").close());
      for (const slider of sliders()) slider.addEventListener("input", place);
      $("opacity").addEventListener("input", () => shown?.model.change("opacity", Number($("opacity").value) / 100));
    },
  };
})();
Viewer.listen();
