"""What people type: commands, flags, settings, what they print.

Importing this puts off the search for garbage, before the commands import the rest: what is imported is none, and to go
through it again and again takes a tenth of a short command's CPU time. A node sets its own thresholds when it is ready;
dfmq-get makes hardly any cycles, however long its list.
"""

import gc

gc.set_threshold(100_000, 50, 50)
