"""Segmenting stained tissue by its overlap: training on soft IoU beats cross-entropy on IoU.

The image is scikit-image's `ihc.png`, colon tissue with an antibody against FHL2 (brown). The reference mask is the
brown stain by colour deconvolution; the model sees grey values only and is judged on the half it did not learn from.
"""

import equinox as eqx
import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402
import optax  # noqa: E402
from scipy.ndimage import gaussian_filter, laplace  # noqa: E402
from skimage import color, data  # noqa: E402

from enerjax.fit import cosine, train  # noqa: E402
from enerjax.learning.objectives import soft_iou, soft_iou_loss  # noqa: E402

image = data.immunohistochemistry()
stain = gaussian_filter(color.rgb2hed(image)[..., 2], 2.0)
mask = (stain > np.quantile(stain, 0.9)).astype(float)  # the strongest tenth: rare, as what one looks for often is
grey = color.rgb2gray(image)
scales = [gaussian_filter(grey, s) for s in (0.5, 1.5, 3, 6, 12)]
features = np.stack([*scales, *(laplace(s) for s in scales[1:4])], -1)
features = (features - features.mean((0, 1))) / features.std((0, 1))
half = image.shape[1] // 2
split = lambda x: (
    jnp.asarray(x[::2, :half:2].reshape(-1, *x.shape[2:])),
    jnp.asarray(x[:, half:].reshape(-1, *x.shape[2:])),
)
(X, X_new), (y, y_new) = split(features), split(mask)

net = eqx.nn.MLP(features.shape[-1], "scalar", 16, 2, jnp.tanh, key=jr.key(args.seed))
probability = lambda net, x: jax.nn.sigmoid(jax.vmap(net)(x))
losses = {
    "cross-entropy": lambda net, b, key: optax.sigmoid_binary_cross_entropy(jax.vmap(net)(b[0]), b[1]).mean(),
    "soft IoU": lambda net, b, key: soft_iou_loss(probability(net, b[0]), b[1]),
}
batches = lambda epoch, key: [(X[i], y[i]) for i in jr.permutation(key, len(y))[: 4096 * 4].reshape(4, 4096)]
score, masks = {}, {}
for name, loss in losses.items():
    fitted = train(loss, net, batches, optax.adam(1e-2), key=jr.key(args.seed), epochs=100, rate=cosine)
    masks[name] = np.asarray(eqx.filter_jit(probability)(fitted.model, X_new) > 0.5, float)
    score[name] = float(soft_iou(jnp.asarray(masks[name]), y_new))

p, hit = jnp.asarray(0.3), jnp.asarray(y[:500])
soft = jnp.full(500, p)
overlap, union = jnp.sum(soft * hit), jnp.sum(soft + hit - soft * hit)
closed = -(hit * union - overlap * (1 - hit)) / union**2
gap = float(jnp.abs(jax.grad(soft_iou_loss)(soft, hit) - closed).max())

figure, axes = plt.subplots(1, 4, figsize=(9, 4.2))
panels = {"image": image[:, half:], "brown stain": mask[:, half:]}
panels |= {f"{name}: IoU {score[name]:.3f}": m.reshape(image.shape[0], -1) for name, m in masks.items()}
for axis, (title, panel) in zip(axes, panels.items(), strict=True):
    axis.imshow(panel, cmap="Greys")
    axis.set(title=title, xticks=[], yticks=[])
gallery.save(figure, args.out, __file__)
gallery.check(
    f"IoU on the unseen half {score['soft IoU']:.3f} trained on soft IoU, {score['cross-entropy']:.3f} on "
    f"cross-entropy; gradient = closed form to {gap:.1e}",
    score["soft IoU"] > score["cross-entropy"] + 0.01 and gap < 1e-12,
)
