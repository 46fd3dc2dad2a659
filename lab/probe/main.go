// Probe is the program of the probe image.
package main

func main() {}
