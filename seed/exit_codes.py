"""What the command line ends with; 0 if all is well."""
FAILED = 1      # of a run that was going
BAD_INPUT = 2   # a human has to mend what was given
RETRY = 75      # for want of memory: the same command may succeed later (EX_TEMPFAIL of sysexits.h)
INTERRUPTED = 130   # by SIGINT, as a shell counts; a search by SIGTERM too
