// Two layers that draw the same points: WebGL 2 where the browser has it, a plain canvas where it has not.
// A layer has draw(view, looks), choose(flags or null) and canvas; a look is {colour, symbol, hidden}.

// Unit paths, -1 to 1, y downwards; the legend, the picture and both layers use these and no others.
const SYMBOLS = {
  circle: "M-.8 0a.8.8 0 1 0 1.6 0a.8.8 0 1 0-1.6 0Z",
  x: "M-.85-.5L-.5-.85L0-.35L.5-.85L.85-.5L.35 0L.85.5L.5.85L0 .35L-.5.85L-.85.5L-.35 0Z",
  "triangle-up": "M0-.9L.92.75H-.92Z",
  "square-open": "M-.8-.8H.8V.8H-.8ZM-.4-.4V.4H.4V-.4Z",
  cross: "M-.28-.9H.28V-.28H.9V.28H.28V.9H-.28V.28H-.9V-.28H-.28Z",
  diamond: "M0-.95L.8 0L0 .95L-.8 0Z",
  star: "M0-1L.26-.36L.95-.31L.42.14L.59.81L0 .44L-.59.81L-.42.14L-.95-.31L-.26-.36Z",
};
const SYMBOL_NAMES = Object.keys(SYMBOLS);
const CELL = 64;
const OPACITY = 0.8;
const FAINT = 0.1;

const VERTEX = `#version 300 es
layout(location=0) in vec2 place;
layout(location=1) in uint group;
layout(location=2) in uint chosen;
uniform vec4 view;
uniform float size;
uniform bool choosing;
uniform sampler2D looks;
out vec4 colour;
flat out float symbol;
void main() {
  vec4 look = texelFetch(looks, ivec2(int(group), 0), 0);
  symbol = floor(look.a * 255. + .5);
  gl_Position = symbol > 254. ? vec4(2, 2, 2, 1) : vec4(place * view.xy + view.zw, 0, 1);
  gl_PointSize = size;
  colour = vec4(look.rgb, choosing && chosen == 0u ? ${FAINT} : ${OPACITY});
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
precision mediump sampler2DArray;
uniform sampler2DArray shapes;
in vec4 colour;
flat in float symbol;
out vec4 pixel;
void main() {
  float alpha = texture(shapes, vec3(gl_PointCoord, symbol)).a * colour.a;
  if (alpha < .01) discard;
  pixel = vec4(colour.rgb * alpha, alpha);
}`;

function rgb(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

/** A symbol as an alpha mask of CELL x CELL pixels. */
function symbolMask(name) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = CELL;
  const context = canvas.getContext("2d");
  context.setTransform(CELL / 2, 0, 0, CELL / 2, CELL / 2, CELL / 2);
  context.fill(new Path2D(SYMBOLS[name]), "evenodd");
  return context.getImageData(0, 0, CELL, CELL).data;
}

/** The layer on WebGL 2; null where the browser has none. */
function glLayer(points) {
  const canvas = document.createElement("canvas");
  const gl = canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: true });
  if (!gl) return null;
  let program, flags = null, choosing = false;

  function compile(kind, source) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    return shader;
  }
  function attribute(location, values, width, whole) {
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(location);
    if (whole) gl.vertexAttribIPointer(location, width, gl.UNSIGNED_BYTE, 0, 0);
    else gl.vertexAttribPointer(location, width, gl.UNSIGNED_SHORT, false, 0, 0);
    return buffer;
  }
  function build() {
    program = gl.createProgram();
    gl.attachShader(program, compile(gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, compile(gl.FRAGMENT_SHADER, FRAGMENT));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(`map: ${gl.getProgramInfoLog(program)}`);
    gl.useProgram(program);
    attribute(0, points.places, 2, false);
    attribute(1, points.groups, 1, true);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, points.order, gl.STATIC_DRAW);
    attribute(2, flags ?? new Uint8Array(points.groups.length), 1, true); // stays bound: choose() fills it
    gl.activeTexture(gl.TEXTURE1);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, gl.createTexture());
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 7, gl.RGBA8, CELL, CELL, SYMBOL_NAMES.length);
    SYMBOL_NAMES.forEach((name, i) =>
      gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, i, CELL, CELL, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(symbolMask(name))));
    gl.generateMipmap(gl.TEXTURE_2D_ARRAY);
    gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_NEAREST);
    gl.uniform1i(gl.getUniformLocation(program, "shapes"), 1);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    gl.uniform1i(gl.getUniformLocation(program, "looks"), 0);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }
  const layer = {
    canvas,
    words: "",
    onrestored: () => {},
    choose(found) {
      choosing = found !== null;
      flags = found;
      if (found) gl.bufferSubData(gl.ARRAY_BUFFER, 0, found);
    },
    draw(view, looks) {
      if (gl.isContextLost()) return;
      const { width, height } = canvas;
      gl.viewport(0, 0, width, height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      const table = new Uint8Array(256 * 4).fill(255);
      looks.forEach((look, i) => table.set([...rgb(look.colour), look.hidden ? 255 : SYMBOL_NAMES.indexOf(look.symbol)], 4 * i));
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, table);
      const [sx, sy] = [(2 * view.scale) / width, (2 * view.scale) / height];
      gl.uniform4f(gl.getUniformLocation(program, "view"), sx, sy, -view.x * sx, -view.y * sy);
      gl.uniform1f(gl.getUniformLocation(program, "size"), view.size);
      gl.uniform1i(gl.getUniformLocation(program, "choosing"), choosing);
      gl.drawElements(gl.POINTS, points.order.length, gl.UNSIGNED_INT, 0);
    },
    end: () => gl.getExtension("WEBGL_lose_context")?.loseContext(),
  };
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", () => { build(); layer.onrestored(); });
  build();
  return layer;
}

/** The layer on a plain canvas: a stamp a group, drawn once a point. */
function plainLayer(points) {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  let flags = null;
  function stamp(look, size) {
    const small = document.createElement("canvas");
    small.width = small.height = Math.ceil(size);
    const pen = small.getContext("2d");
    pen.setTransform(size / 2, 0, 0, size / 2, small.width / 2, small.height / 2);
    pen.fillStyle = look.colour;
    pen.fill(new Path2D(SYMBOLS[look.symbol]), "evenodd");
    return small;
  }
  return {
    canvas,
    words: "This browser has no WebGL: the map is drawn more slowly. ",
    onrestored: () => {},
    choose(found) { flags = found; },
    draw(view, looks) {
      const { width, height } = canvas;
      const stamps = looks.map((look) => stamp(look, view.size));
      const half = Math.ceil(view.size) / 2;
      context.clearRect(0, 0, width, height);
      for (const wanted of flags ? [0, 1] : [1]) {
        context.globalAlpha = wanted ? OPACITY : FAINT;
        for (const i of points.order) {
          const group = points.groups[i];
          if (looks[group].hidden || (flags && flags[i] !== wanted)) continue;
          const x = (points.places[2 * i] - view.x) * view.scale + width / 2 - half;
          const y = (view.y - points.places[2 * i + 1]) * view.scale + height / 2 - half;
          if (x > -20 && y > -20 && x < width && y < height) context.drawImage(stamps[group], Math.round(x), Math.round(y));
        }
      }
    },
    end: () => {},
  };
}
