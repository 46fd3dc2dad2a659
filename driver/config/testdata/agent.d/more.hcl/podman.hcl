not read, since directories are not
