"""Everything that shapes a run. A checkpoint carries these settings; a command line is made
from them.
"""

from vsepp.settings.data import Data
from vsepp.settings.loss import Loss
from vsepp.settings.model import Model
from vsepp.settings.run import Options, Settings
from vsepp.settings.schedule import Schedule

__all__ = ["Data", "Loss", "Model", "Options", "Schedule", "Settings"]
