# fish completion of lunctl: the program itself knows its verbs, and asks the service for names.
LUNCTL_COMPLETE=fish lunctl | source
