// Package spec turns a Nomad task into the container that podman is asked to create, one concern a file.
package spec

import (
	"github.com/containers/podman/v4/pkg/specgen"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/driver/config"
)

// Input is all that a container's specification depends on.
type Input struct {
	// Task is what Nomad asks for, and Config the task's config block.
	Task   *drivers.TaskConfig
	Config *config.Task
	// Logging is the task's logging block or the plugin's, and Uncollected says that no logs go to Nomad.
	Logging     config.Logging
	Uncollected bool
	// Rootless says that the endpoint belongs to an unprivileged host user, and Delegation which limits can hold there.
	// Where RequireDelegation is set, no task runs without its cpu and memory.
	Rootless          bool
	Delegation        cgroupv2.Delegation
	RequireDelegation bool
	// SharedCPUs are the processors for a task without cores of its own, in the format of cpuset(7). Empty: all.
	SharedCPUs string
	// Mounts are the bind mounts, with sources as podman sees them.
	Mounts []config.Mount
}

// Spec is a specification and what the task's owner should know about it.
type Spec struct {
	*specgen.SpecGenerator
	// Warnings name what this host cannot do for the task, though the task runs.
	Warnings []string
	// PortMap is the container port of each published label, for Nomad's service registration.
	PortMap map[string]int
}

// Labels of every container, which say whose it is.
const (
	LabelAllocID  = "com.hashicorp.nomad.alloc_id"
	LabelTaskName = "com.hashicorp.nomad.task_name"
	LabelNodeID   = "com.hashicorp.nomad.node_id"
)

// ContainerName is the name of a task's container: the same for every try of the task in its allocation.
func ContainerName(task *drivers.TaskConfig) string { return ContainerNameOf(task.Name, task.AllocID) }

// ContainerNameOf is ContainerName by what a container's labels say.
func ContainerNameOf(taskName, allocID string) string { return taskName + "-" + allocID }

// Build makes the specification. An error names the job's option that cannot be.
func Build(in Input) (*Spec, error) {
	spec := &Spec{SpecGenerator: &specgen.SpecGenerator{}}
	spec.Name = ContainerName(in.Task)
	spec.Image = in.Config.ImageReference()
	spec.Labels = labels(in)
	process(spec, in)
	security(spec, in)
	mounts(spec, in)
	logging(spec, in)
	if err := resources(spec, in); err != nil {
		return nil, err
	}
	if err := network(spec, in); err != nil {
		return nil, err
	}
	return spec, nil
}

func labels(in Input) map[string]string {
	labels := map[string]string{}
	for name, value := range in.Config.Labels {
		labels[name] = value
	}
	// After the job's own, so that no job can pass its containers off as another's.
	labels[LabelAllocID] = in.Task.AllocID
	labels[LabelTaskName] = in.Task.Name
	labels[LabelNodeID] = in.Task.NodeID
	return labels
}
