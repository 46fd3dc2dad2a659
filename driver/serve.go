package driver

import (
	"context"

	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/drivers/proto"
	"google.golang.org/grpc"
)

// Serve serves the driver to Nomad until Nomad ends it. It is drivers.Serve of Nomad 1.6.0, which would not pass the
// capability DisableLogCollection on.
func (d *Driver) Serve() {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: base.Handshake,
		Plugins: map[string]plugin.Plugin{
			base.PluginTypeBase:   &base.PluginBase{Impl: d},
			base.PluginTypeDriver: drivers.NewDriverPlugin(d, d.logger),
		},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.ChainUnaryInterceptor(d.completeCapabilities))...)
		},
		Logger: d.logger,
	})
}

func (d *Driver) completeCapabilities(ctx context.Context, request any, _ *grpc.UnaryServerInfo, answer grpc.UnaryHandler) (any, error) {
	response, err := answer(ctx, request)
	if capabilities, is := response.(*proto.CapabilitiesResponse); is && err == nil {
		own, err := d.Capabilities()
		if err != nil {
			return nil, err
		}
		capabilities.Capabilities.DisableLogCollection = own.DisableLogCollection
	}
	return response, err
}
