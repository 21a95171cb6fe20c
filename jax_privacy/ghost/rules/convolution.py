"""The rule of `conv_general_dilated`: convolutions of any rank, in groups too.

Invariant: `forms.Form`'s, for a kernel that is the weight.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.ghost import graph, rules
  >>> conv = lambda w, x: jax.lax.conv(x, w, (1, 1), "SAME")
  >>> loss = lambda leaves, rows: (jnp.sum(jnp.sin(conv(*leaves, *rows))), [])
  >>> kernel, image = jnp.ones((4, 2, 3, 3)), jnp.ones((1, 2, 5, 5))
  >>> split = graph.split(loss, [kernel], [image])
  >>> form = rules.find(split.sites[0])
  >>> form.num_positions, form.num_inputs, form.num_outputs
  (25, 18, 4)
"""

import jax.numpy as jnp

from jax_privacy.ghost import graph, patches, sums
from jax_privacy.ghost.rules import forms


@forms.register("conv_general_dilated")
def conv_general_dilated(site: graph.Site) -> forms.Form | None:
  """Returns the form of a site, or None.

  x: the patches of the input; S: the groups; D: kernel pixels x channels.

  gradient[s] = patches[s]^T z[s]. Source: Bu et al. 2022 (arXiv 2205.10683).
  The Gram matrix of patches is a sum of shifted slices of the pixels' own.

  Args:
    site: A site of this primitive.
  """
  if site.weight_operands != (1,):
    return None
  layout = patches.layout(site.eqn)
  if layout is None:
    return None
  dtype = forms.norm_dtype(site)

  def cotangents(z):
    return layout.outputs(z.astype(dtype))

  def gradient(x, z):
    rows = layout.patches(x.astype(dtype))
    return layout.kernel(sums.outer(rows[None], cotangents(z)[None]))

  return forms.Form(
      num_groups=layout.num_groups,
      num_positions=layout.num_positions,
      num_inputs=layout.num_inputs,
      num_outputs=layout.num_outputs,
      gram=lambda x: layout.gram(x.astype(dtype)),
      diagonal=lambda x: layout.patch_sums(jnp.square(x.astype(dtype))),
      input_sums=lambda x: layout.patch_sums(x.astype(dtype)),
      cotangents=cotangents,
      rows=None,
      restore=None,
      gradient=gradient,
      gram_flops=layout.gram_flops,
      channel_axis=layout.channel_axis,
  )
