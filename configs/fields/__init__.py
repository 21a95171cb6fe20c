"""Every field of a config: its default, its meaning and its rule."""

from configs.fields.declared import FIELDS as FIELDS
from configs.fields.declared import check as check
from configs.fields.declared import leaves as leaves
from configs.fields.entry import Field as Field
from configs.fields.render import Row as Row
from configs.fields.render import page as page
from configs.fields.render import table as table
