// Baseline: libgrpc++'s callback server with protobuf C++, as most C++ services are written today.
// Requests are parsed, responses serialised, nothing is stored; gRPC brings the threads.
//
// It serves prism.patterns.keyvalue.KeyValuePattern, so the load that drives Prism drives it
// unchanged. StoreBatch only parses its message and counts the items: the least a server can do.
#include "perf/baseline/baseline.h"
#include "prism/patterns/keyvalue/keyvalue_pattern.grpc.pb.h"

#include <chrono>
#include <grpcpp/grpcpp.h>
#include <memory>
#include <string>

namespace kv = prism::patterns::keyvalue;

namespace {

constexpr std::size_t kValueBytes = 128;

class Server final : public kv::KeyValuePattern::CallbackService {
public:
    grpc::ServerUnaryReactor *Store(grpc::CallbackServerContext *context,
                                    const kv::StoreRequest *request,
                                    kv::StoreResponse *response) override
    {
        response->set_success(!request->key().empty());
        return Done(context);
    }

    grpc::ServerUnaryReactor *Retrieve(grpc::CallbackServerContext *context,
                                       const kv::RetrieveRequest *request,
                                       kv::RetrieveResponse *response) override
    {
        response->set_found(!request->key().empty());
        response->set_value(value_);
        return Done(context);
    }

    grpc::ServerUnaryReactor *StoreBatch(grpc::CallbackServerContext *context,
                                         const kv::StoreBatchRequest *request,
                                         kv::StoreBatchResponse *response) override
    {
        response->set_all_success(true);
        response->set_success_count(request->requests_size());
        return Done(context);
    }

private:
    static grpc::ServerUnaryReactor *Done(grpc::CallbackServerContext *context)
    {
        grpc::ServerUnaryReactor *reactor = context->DefaultReactor();
        reactor->Finish(grpc::Status::OK);
        return reactor;
    }

    const std::string value_ = std::string(kValueBytes, 'v');
};

} // namespace

int main(int argc, char **argv)
{
    sigset_t ending;
    int port = baseline_port(argc, argv);
    int signal_number = 0;

    baseline_block_signals(&ending);
    baseline_switch_off_lock_tracking();
    Server service;
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(-1);
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port),
                             grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service);
    std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (server == nullptr || port <= 0) {
        std::fprintf(stderr, "usage: %s [PORT]: cannot listen\n", argv[0]);
        return 1;
    }
    baseline_announce(port);

    sigwait(&ending, &signal_number);
    server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
    return 0;
}
