"use strict";
// The viewer of synthetic volumes. It reads the JSON block "volumes" of this page, and nothing else.
(async () => {
  const element = (id) => document.getElementById(id);
  const failed = (why) => {
    element("viewer-failed").hidden = false;
    element("viewer-failed").textContent = why + " The pictures above show the same kind of pairs.";
    element("viewer-box").hidden = true;
  };
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  const volumes = JSON.parse(element("volumes").textContent);
  const canvas = element("viewer-canvas");
  if (!document.createElement("canvas").getContext("webgl2")) {
    failed("This browser cannot draw volumes (it lacks WebGL 2).");
    return;
  }
  const viewer = new niivue.Niivue({
    backColor: [0, 0, 0, 1],
    crosshairColor: [0.33, 0.78, 0.71, 0.6],
    dragAndDropEnabled: false,
    isOrientationTextVisible: false,
    isNearestInterpolation: true,
    loadingText: "",
    logLevel: "error",
    multiplanarForceRender: true,
    show3Dcrosshair: false,
  });
  const kinds = { planes: viewer.sliceTypeMultiplanar, slice: viewer.sliceTypeAxial, body: viewer.sliceTypeRender };
  let shown = null;

  const place = () => {
    const at = Number(element("viewer-slice").value) - 1;
    const depth = viewer.volumes[0].dimsRAS[3];
    viewer.scene.crosshairPos[2] = (at + 0.5) / depth;
    viewer.drawScene();
    element("viewer-told").textContent = shown.told[Math.min(at, shown.told.length - 1)];
  };
  const view = () => {
    viewer.opts.crosshairWidth = element("viewer-view").value === "slice" ? 0 : 0.5;
    element("viewer-frame").dataset.view = element("viewer-view").value;
    viewer.setSliceType(kinds[element("viewer-view").value]);
    element("viewer-slice").disabled = element("viewer-view").value === "body";
  };
  const label = () => viewer.setOpacity(1, element("viewer-label").checked ? 0.6 : 0);
  // A volume and its label are read first and put up in one go: no half of another is ever in between.
  const show = async (wanted) => {
    const image = { url: "image.nii.gz", name: "image.nii.gz", buffer: bytes(wanted.image), colormap: "gray" };
    const marks = { url: "label.nii.gz", name: "label.nii.gz", buffer: bytes(wanted.label), colormap: "willis" };
    const read = [
      await niivue.NVImage.loadFromUrl({ ...image, cal_min: 0, cal_max: 255 }),
      await niivue.NVImage.loadFromUrl({ ...marks, cal_min: 0, cal_max: 1, opacity: 0.6 }),
    ];
    while (viewer.volumes.length) viewer.removeVolumeByIndex(viewer.volumes.length - 1);
    read.forEach((one) => viewer.addVolume(one));
    shown = wanted;
    const slice = element("viewer-slice");
    slice.max = viewer.volumes[0].dimsRAS[3];
    slice.value = Math.floor(shown.start[2] * slice.max) + 1;
    viewer.scene.crosshairPos = [...shown.start];
    canvas.setAttribute("aria-label", shown.title + ": volume with its label in orange");
    view();
    label();
    place();
  };

  // The last wish wins: of volumes chosen while one is read, all but the last are passed over.
  const choose = async () => {
    const wanted = volumes[Number(element("viewer-volume").value)];
    if (wanted !== shown) await show(wanted);
  };
  const start = async () => {
    viewer.addColormap("willis", { R: [0, 255], G: [0, 115], B: [0, 51], A: [0, 255], I: [0, 255] });
    await viewer.attachToCanvas(canvas);
    element("viewer-view").value = volumes[0].view;
    await choose();
    document.documentElement.dataset.viewer = "ready";
  };

  // One queue: what is chosen is done after what was chosen before it.
  let waiting = 0;
  const busy = (more) => element("viewer-frame").setAttribute("aria-busy", (waiting += more) > 0);
  const queued = (act) => () => {
    busy(1);
    queue = queue.then(act).catch((fault) => failed("The viewer stopped (" + fault.message + ").")).then(() => busy(-1));
  };
  let queue = start().catch((fault) => failed("The viewer could not start (" + fault.message + ")."));
  element("viewer-volume").addEventListener("change", queued(choose));
  element("viewer-view").addEventListener("change", queued(view));
  element("viewer-slice").addEventListener("input", queued(place));
  element("viewer-label").addEventListener("change", queued(label));
})();
