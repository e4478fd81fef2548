/* Architectures as data: the config.json of well-known models as published gives the sizes and the
   number of parameters that transformers counts, settings that are not supported are refused by
   name, and hostile values do no harm. What the models compute is compared in test_search. */
#include "private.h"
#include "t.h"

#include <math.h>

typedef struct published {
    const char *name;
    uint64_t n_parameters; /* counted by transformers 5 on the meta device, tied matrices once */
    uint32_t n_blocks, head_dim, n_kv_heads, window, n_window_blocks;
    int tied;
    double rope_theta;
    const char *config;
} published;

static const published models[] = {
    {"Llama-2-7b-hf", 6738415616ull, 32, 128, 32, 0, 0, 0, 10000,
     "{\"architectures\":[\"LlamaForCausalLM\"],\"bos_token_id\":1,\"eos_token_id\":2,"
     "\"hidden_act\":\"silu\",\"hidden_"
     "size\":4096,\"initializer_range\":0.02,\"intermediate_size\":11008,\"max_position_embeddings"
     "\":4096,\"model_"
     "type\":\"llama\",\"num_attention_heads\":32,\"num_hidden_layers\":32,"
     "\"num_key_value_heads\":32,\"pretraining_"
     "tp\":1,\"rms_norm_eps\":1e-05,\"rope_scaling\":null,\"tie_word_embeddings\":false,"
     "\"torch_dtype\":\"float16\",\""
     "transformers_version\":\"4.31.0.dev0\",\"use_cache\":true,\"vocab_size\":32000}"},
    {"Llama-2-13b-hf", 13015864320, 40, 128, 40, 0, 0, 0, 10000,
     "{\"architectures\":[\"LlamaForCausalLM\"],\"bos_token_id\":1,\"eos_token_id\":2,"
     "\"hidden_act\":\"silu\",\"hidden_"
     "size\":5120,\"initializer_range\":0.02,\"intermediate_size\":13824,\"max_position_embeddings"
     "\":4096,\"model_"
     "type\":\"llama\",\"num_attention_heads\":40,\"num_hidden_layers\":40,"
     "\"num_key_value_heads\":40,\"pretraining_"
     "tp\":1,\"rms_norm_eps\":1e-05,\"rope_scaling\":null,\"tie_word_embeddings\":false,"
     "\"torch_dtype\":\"float16\",\""
     "transformers_version\":\"4.31.0.dev0\",\"use_cache\":true,\"vocab_size\":32000}"},
    {"Llama-2-70b-hf", 68976648192ull, 80, 128, 8, 0, 0, 0, 10000,
     "{\"architectures\":[\"LlamaForCausalLM\"],\"bos_token_id\":1,\"eos_token_id\":2,"
     "\"hidden_act\":\"silu\",\"hidden_"
     "size\":8192,\"initializer_range\":0.02,\"intermediate_size\":28672,\"max_position_embeddings"
     "\":4096,\"model_"
     "type\":\"llama\",\"num_attention_heads\":64,\"num_hidden_layers\":80,"
     "\"num_key_value_heads\":8,\"pretraining_t"
     "p\":1,\"rms_norm_eps\":1e-05,\"rope_scaling\":null,\"tie_word_embeddings\":false,"
     "\"torch_dtype\":\"float16\",\"t"
     "ransformers_version\":\"4.31.0.dev0\",\"use_cache\":true,\"vocab_size\":32000}"},
    {"vicuna-7b-v1.5", 6738415616ull, 32, 128, 32, 0, 0, 0, 10000,
     "{\"architectures\":[\"LlamaForCausalLM\"],\"bos_token_id\":1,\"eos_token_id\":2,"
     "\"hidden_act\":\"silu\",\"hidden_"
     "size\":4096,\"initializer_range\":0.02,\"intermediate_size\":11008,\"max_position_embeddings"
     "\":4096,\"model_"
     "type\":\"llama\",\"num_attention_heads\":32,\"num_hidden_layers\":32,"
     "\"num_key_value_heads\":32,\"pretraining_"
     "tp\":1,\"rms_norm_eps\":1e-05,\"rope_scaling\":null,\"tie_word_embeddings\":false,"
     "\"torch_dtype\":\"float16\",\""
     "transformers_version\":\"4.31.0\",\"use_cache\":true,\"vocab_size\":32000,"
     "\"_name_or_path\":\"vicuna-7b-v1.5\","
     "\"pad_token_id\":0}"},
    {"vicuna-13b-v1.3", 13015864320, 40, 128, 40, 0, 0, 0, 10000,
     "{\"architectures\":[\"LlamaForCausalLM\"],\"bos_token_id\":1,\"eos_token_id\":2,"
     "\"hidden_act\":\"silu\",\"hidden_"
     "size\":5120,\"initializer_range\":0.02,\"intermediate_size\":13824,\"max_position_embeddings"
     "\":2048,\"model_"
     "type\":\"llama\",\"num_attention_heads\":40,\"num_hidden_layers\":40,\"pad_token_id\":0,"
     "\"rms_norm_eps\":1e-06,"
     "\"tie_word_embeddings\":false,\"torch_dtype\":\"float16\",\"transformers_version\":\"4.28.1\""
     ",\"use_cache\":true"
     ",\"vocab_size\":32000}"},
    {"Meta-Llama-3-8B", 8030261248ull, 32, 128, 8, 0, 0, 0, 500000,
     "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
     "\"bos_token_id\":"
     "128000,\"eos_token_id\":128001,\"hidden_act\":\"silu\",\"hidden_size\":4096,"
     "\"initializer_range\":0.02,\"interm"
     "ediate_size\":14336,\"max_position_embeddings\":8192,\"model_type\":\"llama\","
     "\"num_attention_heads\":32,\"num"
     "_hidden_layers\":32,\"num_key_value_heads\":8,\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,"
     "\"rope_scaling\":nu"
     "ll,\"rope_theta\":500000.0,\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\","
     "\"transformers_version\""
     ":\"4.40.0.dev0\",\"use_cache\":true,\"vocab_size\":128256}"},
    {"Meta-Llama-3-70B", 70553706496ull, 80, 128, 8, 0, 0, 0, 500000,
     "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
     "\"bos_token_id\":"
     "128000,\"eos_token_id\":128001,\"hidden_act\":\"silu\",\"hidden_size\":8192,"
     "\"initializer_range\":0.02,\"interm"
     "ediate_size\":28672,\"max_position_embeddings\":8192,\"model_type\":\"llama\","
     "\"num_attention_heads\":64,\"num"
     "_hidden_layers\":80,\"num_key_value_heads\":8,\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,"
     "\"rope_scaling\":nu"
     "ll,\"rope_theta\":500000.0,\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\","
     "\"transformers_version\""
     ":\"4.40.0.dev0\",\"use_cache\":true,\"vocab_size\":128256}"},
    {"Mixtral-8x7B-v0.1", 46702792704ull, 32, 128, 8, 0, 0, 0, 1000000,
     "{\"architectures\":[\"MixtralForCausalLM\"],\"attention_dropout\":0.0,\"bos_token_id\":1,"
     "\"eos_token_id\":2,\"h"
     "idden_act\":\"silu\",\"hidden_size\":4096,\"initializer_range\":0.02,"
     "\"intermediate_size\":14336,\"max_positio"
     "n_embeddings\":32768,\"model_type\":\"mixtral\",\"num_attention_heads\":32,"
     "\"num_experts_per_tok\":2,\"num_hid"
     "den_layers\":32,\"num_key_value_heads\":8,\"num_local_experts\":8,\"output_router_logits\":fa"
     "lse,\"rms_norm_"
     "eps\":1e-05,\"rope_theta\":1000000.0,\"router_aux_loss_coef\":0.02,\"sliding_window\":null,"
     "\"tie_word_embedd"
     "ings\":false,\"torch_dtype\":\"bfloat16\",\"transformers_version\":\"4.36.0.dev0\","
     "\"use_cache\":true,\"vocab_si"
     "ze\":32000}"},
    {"Mistral-7B-v0.1", 7241732096ull, 32, 128, 8, 4096, 32, 0, 10000,
     "{\"architectures\":[\"MistralForCausalLM\"],\"bos_token_id\":1,\"eos_token_id\":2,"
     "\"hidden_act\":\"silu\",\"hidde"
     "n_size\":4096,\"initializer_range\":0.02,\"intermediate_size\":14336,"
     "\"max_position_embeddings\":32768,\"mod"
     "el_type\":\"mistral\",\"num_attention_heads\":32,\"num_hidden_layers\":32,"
     "\"num_key_value_heads\":8,\"rms_norm"
     "_eps\":1e-05,\"rope_theta\":10000.0,\"sliding_window\":4096,\"tie_word_embeddings\":false,"
     "\"torch_dtype\":\"bf"
     "loat16\",\"transformers_version\":\"4.34.0.dev0\",\"use_cache\":true,\"vocab_size\":32000}"},
    {"Qwen2-0.5B", 494032768ull, 24, 64, 2, 0, 0, 1, 1000000,
     "{\"architectures\":[\"Qwen2ForCausalLM\"],\"attention_dropout\":0.0,\"bos_token_id\":151643,"
     "\"eos_token_id\":1"
     "51643,\"hidden_act\":\"silu\",\"hidden_size\":896,\"initializer_range\":0.02,"
     "\"intermediate_size\":4864,\"max_p"
     "osition_embeddings\":131072,\"max_window_layers\":24,\"model_type\":\"qwen2\","
     "\"num_attention_heads\":14,\"num"
     "_hidden_layers\":24,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-06,"
     "\"rope_theta\":1000000.0,\"sliding_wind"
     "ow\":131072,\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\","
     "\"transformers_version\":\"4.40.1\",\"use_"
     "cache\":true,\"use_sliding_window\":false,\"vocab_size\":151936}"},
    {"Qwen3-0.6B", 596049920, 28, 128, 8, 0, 0, 1, 1000000,
     "{\"architectures\":[\"Qwen3ForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
     "\"bos_token_id\":"
     "151643,\"eos_token_id\":151645,\"head_dim\":128,\"hidden_act\":\"silu\",\"hidden_size\":1024,"
     "\"initializer_rang"
     "e\":0.02,\"intermediate_size\":3072,\"max_position_embeddings\":40960,"
     "\"max_window_layers\":28,\"model_type\""
     ":\"qwen3\",\"num_attention_heads\":16,\"num_hidden_layers\":28,\"num_key_value_heads\":8,"
     "\"rms_norm_eps\":1e-0"
     "6,\"rope_scaling\":null,\"rope_theta\":1000000,\"sliding_window\":null,"
     "\"tie_word_embeddings\":true,\"torch_d"
     "type\":\"bfloat16\",\"transformers_version\":\"4.51.0\",\"use_cache\":true,"
     "\"use_sliding_window\":false,\"vocab_"
     "size\":151936}"},
    {"Qwen3-30B-A3B", 30532122624ull, 48, 128, 4, 0, 0, 0, 1000000,
     "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"attention_bias\":false,"
     "\"attention_dropout\":0.0,\"bos_token_i"
     "d\":151643,\"decoder_sparse_step\":1,\"eos_token_id\":151645,\"head_dim\":128,"
     "\"hidden_act\":\"silu\",\"hidden_s"
     "ize\":2048,\"initializer_range\":0.02,\"intermediate_size\":6144,\"max_position_embeddings\":"
     "40960,\"max_win"
     "dow_layers\":48,\"mlp_only_layers\":[],\"model_type\":\"qwen3_moe\",\"moe_intermediate_size\""
     ":768,\"norm_topk_"
     "prob\":true,\"num_attention_heads\":32,\"num_experts\":128,\"num_experts_per_tok\":8,"
     "\"num_hidden_layers\":48"
     ",\"num_key_value_heads\":4,\"output_router_logits\":false,\"rms_norm_eps\":1e-06,"
     "\"rope_scaling\":null,\"rope"
     "_theta\":1000000.0,\"router_aux_loss_coef\":0.001,\"sliding_window\":null,"
     "\"tie_word_embeddings\":false,\"to"
     "rch_dtype\":\"bfloat16\",\"transformers_version\":\"4.51.0\",\"use_cache\":true,"
     "\"use_sliding_window\":false,\"v"
     "ocab_size\":151936}"},
    {"gemma-2b", 2506172416ull, 18, 256, 1, 0, 0, 1, 10000,
     "{\"architectures\":[\"GemmaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
     "\"bos_token_id\":"
     "2,\"eos_token_id\":1,\"head_dim\":256,\"hidden_act\":\"gelu\",\"hidden_activation\":\"gelu_py"
     "torch_tanh\",\"hidde"
     "n_size\":2048,\"initializer_range\":0.02,\"intermediate_size\":16384,"
     "\"max_position_embeddings\":8192,\"mode"
     "l_type\":\"gemma\",\"num_attention_heads\":8,\"num_hidden_layers\":18,"
     "\"num_key_value_heads\":1,\"pad_token_id"
     "\":0,\"rms_norm_eps\":1e-06,\"rope_scaling\":null,\"rope_theta\":10000.0,"
     "\"torch_dtype\":\"bfloat16\",\"transfor"
     "mers_version\":\"4.38.0.dev0\",\"use_cache\":true,\"vocab_size\":256000}"},
    {"gemma-2-2b", 2614341888ull, 26, 256, 4, 4096, 13, 1, 10000,
     "{\"architectures\":[\"Gemma2ForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0"
     ",\"attn_logit_so"
     "ftcapping\":50.0,\"bos_token_id\":2,\"cache_implementation\":\"hybrid\",\"eos_token_id\":1,"
     "\"final_logit_softc"
     "apping\":30.0,\"head_dim\":256,\"hidden_act\":\"gelu_pytorch_tanh\",\"hidden_activation\":\"g"
     "elu_pytorch_tanh\""
     ",\"hidden_size\":2304,\"initializer_range\":0.02,\"intermediate_size\":9216,"
     "\"max_position_embeddings\":8192"
     ",\"model_type\":\"gemma2\",\"num_attention_heads\":8,\"num_hidden_layers\":26,"
     "\"num_key_value_heads\":4,\"pad_t"
     "oken_id\":0,\"query_pre_attn_scalar\":256,\"rms_norm_eps\":1e-06,\"rope_theta\":10000.0,"
     "\"sliding_window\":40"
     "96,\"torch_dtype\":\"float32\",\"transformers_version\":\"4.42.4\",\"use_cache\":true,"
     "\"vocab_size\":256000}"},
    {"gemma-3-270m", 268098176ull, 18, 256, 1, 512, 15, 1, 1000000,
     "{\"_sliding_window_pattern\":6,\"architectures\":[\"Gemma3ForCausalLM\"],"
     "\"attention_bias\":false,\"attention"
     "_dropout\":0.0,\"attn_logit_softcapping\":null,\"bos_token_id\":2,\"eos_token_id\":1,"
     "\"final_logit_softcappi"
     "ng\":null,\"head_dim\":256,\"hidden_activation\":\"gelu_pytorch_tanh\",\"hidden_size\":640,"
     "\"initializer_range"
     "\":0.02,\"intermediate_size\":2048,\"layer_types\":[\"sliding_attention\","
     "\"sliding_attention\",\"sliding_atte"
     "ntion\",\"sliding_attention\",\"sliding_attention\",\"full_attention\",\"sliding_attention\","
     "\"sliding_attenti"
     "on\",\"sliding_attention\",\"sliding_attention\",\"sliding_attention\",\"full_attention\","
     "\"sliding_attention\""
     ",\"sliding_attention\",\"sliding_attention\",\"sliding_attention\",\"sliding_attention\","
     "\"full_attention\"],\""
     "max_position_embeddings\":32768,\"model_type\":\"gemma3_text\",\"num_attention_heads\":4,"
     "\"num_hidden_layers"
     "\":18,\"num_key_value_heads\":1,\"pad_token_id\":0,\"query_pre_attn_scalar\":256,"
     "\"rms_norm_eps\":1e-06,\"rope"
     "_local_base_freq\":10000.0,\"rope_scaling\":null,\"rope_theta\":1000000.0,"
     "\"sliding_window\":512,\"torch_dty"
     "pe\":\"bfloat16\",\"transformers_version\":\"4.55.0.dev0\",\"use_bidirectional_attention\":fa"
     "lse,\"use_cache\":"
     "true,\"vocab_size\":262144}"},
    {"gemma-3-4b-pt", 3880263168ull, 34, 256, 4, 1024, 29, 1, 1000000,
     "{\"architectures\":[\"Gemma3ForConditionalGeneration\"],\"boi_token_index\":255999,"
     "\"eoi_token_index\":25600"
     "0,\"eos_token_id\":[1,106],\"image_token_index\":262144,\"initializer_range\":0.02,"
     "\"mm_tokens_per_image\":2"
     "56,\"model_type\":\"gemma3\",\"text_config\":{\"hidden_size\":2560,\"intermediate_size\":1024"
     "0,\"model_type\":\"g"
     "emma3_text\",\"num_hidden_layers\":34,\"rope_scaling\":{\"factor\":8.0,"
     "\"rope_type\":\"linear\"},\"sliding_windo"
     "w\":1024},\"torch_dtype\":\"bfloat16\",\"transformers_version\":\"4.50.0.dev0\","
     "\"vision_config\":{\"hidden_size"
     "\":1152,\"image_size\":896,\"intermediate_size\":4304,\"model_type\":\"siglip_vision_model\","
     "\"num_attention_h"
     "eads\":16,\"num_hidden_layers\":27,\"patch_size\":14,\"vision_use_head\":false}}"},
    {"Phi-3-mini-4k-instruct", 3821079552ull, 32, 96, 32, 2047, 32, 0, 10000,
     "{\"_name_or_path\":\"Phi-3-mini-4k-instruct\",\"architectures\":[\"Phi3ForCausalLM\"],"
     "\"attention_dropout\":0."
     "0,\"auto_map\":{\"AutoConfig\":\"configuration_phi3.Phi3Config\",\"AutoModelForCausalLM\":\"m"
     "odeling_phi3.Phi"
     "3ForCausalLM\"},\"bos_token_id\":1,\"embd_pdrop\":0.0,\"eos_token_id\":32000,"
     "\"hidden_act\":\"silu\",\"hidden_si"
     "ze\":3072,\"initializer_range\":0.02,\"intermediate_size\":8192,\"max_position_embeddings\":4"
     "096,\"model_typ"
     "e\":\"phi3\",\"num_attention_heads\":32,\"num_hidden_layers\":32,\"num_key_value_heads\":32,"
     "\"original_max_pos"
     "ition_embeddings\":4096,\"pad_token_id\":32000,\"resid_pdrop\":0.0,\"rms_norm_eps\":1e-05,"
     "\"rope_scaling\":nu"
     "ll,\"rope_theta\":10000.0,\"sliding_window\":2047,\"tie_word_embeddings\":false,"
     "\"torch_dtype\":\"bfloat16\",\""
     "transformers_version\":\"4.40.2\",\"use_cache\":true,\"attention_bias\":false,"
     "\"vocab_size\":32064}"},
    {"OLMo-2-1124-7B", 7298617344ull, 32, 128, 32, 0, 0, 0, 500000,
     "{\"architectures\":[\"Olmo2ForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
     "\"eos_token_id\":"
     "100257,\"hidden_act\":\"silu\",\"hidden_size\":4096,\"initializer_range\":0.02,"
     "\"intermediate_size\":11008,\"ma"
     "x_position_embeddings\":4096,\"model_type\":\"olmo2\",\"num_attention_heads\":32,"
     "\"num_hidden_layers\":32,\"nu"
     "m_key_value_heads\":32,\"pad_token_id\":100277,\"rms_norm_eps\":1e-06,\"rope_scaling\":null,"
     "\"rope_theta\":50"
     "0000,\"tie_word_embeddings\":false,\"torch_dtype\":\"float32\",\"transformers_version\":\"4.4"
     "7.0.dev0\",\"use_c"
     "ache\":true,\"vocab_size\":100352}"},
    {"granite-3.1-2b-base", 2533525504ull, 40, 64, 8, 0, 0, 1, 5000000,
     "{\"architectures\":[\"GraniteForCausalLM\"],\"attention_bias\":false,"
     "\"attention_dropout\":0.1,\"attention_mu"
     "ltiplier\":0.015625,\"bos_token_id\":0,\"embedding_multiplier\":12.0,\"eos_token_id\":0,"
     "\"hidden_act\":\"silu\""
     ",\"hidden_size\":2048,\"initializer_range\":0.02,\"intermediate_size\":8192,"
     "\"logits_scaling\":8.0,\"max_posi"
     "tion_embeddings\":131072,\"mlp_bias\":false,\"model_type\":\"granite\","
     "\"num_attention_heads\":32,\"num_hidden"
     "_layers\":40,\"num_key_value_heads\":8,\"pad_token_id\":0,\"residual_multiplier\":0.22,"
     "\"rms_norm_eps\":1e-05"
     ",\"rope_scaling\":null,\"rope_theta\":5000000.0,\"tie_word_embeddings\":true,"
     "\"torch_dtype\":\"bfloat16\",\"tra"
     "nsformers_version\":\"4.47.0\",\"use_cache\":true,\"vocab_size\":49152}"},
    {"SmolLM3-3B", 3075098624ull, 36, 128, 4, 0, 0, 1, 5000000,
     "{\"architectures\":[\"SmolLM3ForCausalLM\"],\"attention_bias\":false,"
     "\"attention_dropout\":0.0,\"bos_token_id"
     "\":null,\"eos_token_id\":128012,\"hidden_act\":\"silu\",\"hidden_size\":2048,"
     "\"initializer_range\":0.02,\"interm"
     "ediate_size\":11008,\"layer_types\":[\"full_attention\",\"full_attention\","
     "\"full_attention\",\"full_attention"
     "\",\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\","
     "\"full_attention\",\"full_attenti"
     "on\",\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\","
     "\"full_attention\",\"full_atten"
     "tion\",\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\","
     "\"full_attention\",\"full_att"
     "ention\",\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\","
     "\"full_attention\",\"full_a"
     "ttention\",\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\","
     "\"full_attention\",\"full"
     "_attention\",\"full_attention\",\"full_attention\"],\"max_position_embeddings\":65536,"
     "\"max_window_layers\":2"
     "8,\"mlp_bias\":false,\"model_type\":\"smollm3\",\"no_rope_layer_interval\":4,"
     "\"no_rope_layers\":[1,1,1,0,1,1,1"
     ",0,1,1,1,0,1,1,1,0,1,1,1,0,1,1,1,0,1,1,1,0,1,1,1,0,1,1,1,0],\"num_attention_heads\":16,"
     "\"num_hidden_lay"
     "ers\":36,\"num_key_value_heads\":4,\"pad_token_id\":128004,\"pretraining_tp\":2,"
     "\"rms_norm_eps\":1e-06,\"rope_"
     "scaling\":null,\"rope_theta\":5000000.0,\"sliding_window\":null,\"tie_word_embeddings\":true,"
     "\"torch_dtype\":"
     "\"bfloat16\",\"transformers_version\":\"4.54.0.dev0\",\"use_cache\":false,"
     "\"use_sliding_window\":false,\"vocab_"
     "size\":128256}"},
    {"stablelm-3b-4e1t", 2795443200, 32, 80, 32, 0, 0, 0, 10000,
     "{\"architectures\":[\"StableLmForCausalLM\"],\"bos_token_id\":0,\"eos_token_id\":0,"
     "\"hidden_act\":\"silu\",\"hidd"
     "en_size\":2560,\"initializer_range\":0.02,\"intermediate_size\":6912,"
     "\"layer_norm_eps\":1e-05,\"max_position"
     "_embeddings\":4096,\"model_type\":\"stablelm\",\"num_attention_heads\":32,"
     "\"num_hidden_layers\":32,\"num_key_v"
     "alue_heads\":32,\"partial_rotary_factor\":0.25,\"rope_theta\":10000,\"tie_word_embeddings\":f"
     "alse,\"torch_dt"
     "ype\":\"bfloat16\",\"transformers_version\":\"4.38.0\",\"use_cache\":true,"
     "\"use_qkv_bias\":false,\"vocab_size\":5"
     "0304}"},
    {"starcoder2-3b", 3030371328ull, 30, 128, 2, 4096, 30, 1, 999999.44203588134,
     "{\"activation_function\":\"gelu\",\"architectures\":[\"Starcoder2ForCausalLM\"],"
     "\"attention_dropout\":0.1,\"att"
     "ention_softmax_in_fp32\":true,\"bos_token_id\":0,\"embedding_dropout\":0.1,"
     "\"eos_token_id\":0,\"hidden_act\":"
     "\"gelu_pytorch_tanh\",\"hidden_size\":3072,\"initializer_range\":0.018042,"
     "\"intermediate_size\":12288,\"layer"
     "_norm_epsilon\":1e-05,\"max_position_embeddings\":16384,\"mlp_type\":\"default\","
     "\"model_type\":\"starcoder2\","
     "\"norm_epsilon\":1e-05,\"norm_type\":\"layer_norm\",\"num_attention_heads\":24,"
     "\"num_hidden_layers\":30,\"num_k"
     "ey_value_heads\":2,\"residual_dropout\":0.1,\"rope_theta\":999999.4420358813,"
     "\"sliding_window\":4096,\"torch"
     "_dtype\":\"float32\",\"transformers_version\":\"4.39.0.dev0\",\"use_bias\":true,"
     "\"use_cache\":true,\"vocab_size\""
     ":49152}"},
    {"pythia-70m", 70426624ull, 6, 64, 8, 0, 0, 0, 10000,
     "{\"architectures\":[\"GPTNeoXForCausalLM\"],\"bos_token_id\":0,\"eos_token_id\":0,"
     "\"hidden_act\":\"gelu\",\"hidde"
     "n_size\":512,\"initializer_range\":0.02,\"intermediate_size\":2048,\"layer_norm_eps\":1e-05,"
     "\"max_position_e"
     "mbeddings\":2048,\"model_type\":\"gpt_neox\",\"num_attention_heads\":8,"
     "\"num_hidden_layers\":6,\"rotary_emb_ba"
     "se\":10000,\"rotary_pct\":0.25,\"tie_word_embeddings\":false,\"torch_dtype\":\"float16\","
     "\"transformers_versio"
     "n\":\"4.24.0\",\"use_cache\":true,\"use_parallel_residual\":true,\"vocab_size\":50304}"},
    {"gpt2", 124439808ull, 12, 64, 12, 0, 0, 1, 10000,
     "{\"activation_function\":\"gelu_new\",\"architectures\":[\"GPT2LMHeadModel\"],"
     "\"attn_pdrop\":0.1,\"bos_token_id"
     "\":50256,\"embd_pdrop\":0.1,\"eos_token_id\":50256,\"initializer_range\":0.02,"
     "\"layer_norm_epsilon\":1e-05,\"m"
     "odel_type\":\"gpt2\",\"n_ctx\":1024,\"n_embd\":768,\"n_head\":12,\"n_layer\":12,"
     "\"n_positions\":1024,\"resid_pdrop"
     "\":0.1,\"summary_activation\":null,\"summary_first_dropout\":0.1,\"summary_proj_to_labels\":t"
     "rue,\"summary_t"
     "ype\":\"cls_index\",\"summary_use_proj\":true,\"task_specific_params\":{\"text-generation\":{"
     "\"do_sample\":true"
     ",\"max_length\":50}},\"vocab_size\":50257}"},
};

/* Reads a config.json; the caller ends the model with `end`. */
static fc_code configure(fc_model *m, const char *config, fc_error *err) {
    fc_env env;
    fci_arena scratch;
    const fci_json *root;
    memset(&env, 0, sizeof env);
    memset(m, 0, sizeof *m);
    fci_context_basic(&m->c, &env);
    m->arena.c = &m->c;
    memset(&scratch, 0, sizeof scratch);
    scratch.c = &m->c;
    fc_code code = fci_json_parse(&m->c, &scratch, config, strlen(config), 0, &root, err);
    if (!code) code = fci_config_json(m, root, &scratch, err);
    fci_arena_free(&scratch);
    return code;
}

static void end(fc_model *m) { fci_arena_free(&m->arena); }

/* What the tensors of the table add up to; m->container is not there, so this goes by the names of
   safetensors. */
static uint64_t count_parameters(const fc_model *m) {
    uint64_t n = 0;
    for (const fci_tensor_row *row = fci_tensor_rows(); row->gguf; row++) {
        uint64_t rows = fci_slot_dim(&m->hyper, row->rows),
                 cols = fci_slot_dim(&m->hyper, row->cols);
        for (uint32_t b = 0; b < (row->slot >= FCI_FIRST_BLOCK_SLOT ? m->hyper.n_blocks : 1); b++) {
            uint32_t traits = m->hyper.traits | FCI_TRAIT_MAYBE |
                              (m->hyper.blocks[b].experts ? FCI_TRAIT_BLOCK_EXPERTS : 0u);
            if (!fci_tensor_pattern(m->architecture->names, row, false) || (row->need & ~traits) ||
                (row->unless & traits))
                continue;
            n += (rows * cols + ((m->hyper.traits & row->bias) ? rows : 0)) *
                 (fci_weights_is_expert(row->slot) ? m->hyper.n_experts : 1);
        }
    }
    return n;
}

static void test_published(const published *p) {
    fc_model m;
    fc_error err;
    uint32_t window = 0, windows = 0;
    if (T_OK(configure(&m, p->config, &err) == FC_OK, "%s: %s", p->name, err.msg)) {
        const fci_hyper *h = &m.hyper;
        for (uint32_t b = 0; b < h->n_blocks; b++) {
            if (h->blocks[b].window) window = h->blocks[b].window;
            windows += h->blocks[b].window > 0;
        }
        uint64_t n = count_parameters(&m);
        T_OK(n == p->n_parameters, "%s: expected %llu parameters, got %llu", p->name,
             (unsigned long long)p->n_parameters, (unsigned long long)n);
        T_OK(h->n_blocks == p->n_blocks && h->head_dim == p->head_dim &&
                 h->n_kv_heads == p->n_kv_heads,
             "%s: sizes", p->name);
        T_OK(window == p->window && windows == p->n_window_blocks, "%s: window %u in %u blocks",
             p->name, window, windows);
        T_OK(((h->traits & FCI_TRAIT_TIED) != 0) == (p->tied != 0), "%s: tied", p->name);
        T_OK((h->traits & FCI_TRAIT_POSITIONS) || h->ropes[0].theta == p->rope_theta,
             "%s: rope theta %g", p->name, h->ropes[0].theta);
    }
    end(&m);
}

#define LLAMA "\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":96," \
    "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"vocab_size\":99"
#define OTHER(type) "\"model_type\":\"" type "\",\"hidden_size\":64,\"intermediate_size\":96," \
    "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":4," \
    "\"vocab_size\":99"

/* One block, 4 heads in 2 groups, 256 numbers inside; 2/3 of 5.25 * 64 are 224. */
#define PRUNED(blocks) "{\"model_type\":\"finercut-llama\",\"hidden_size\":64," \
    "\"intermediate_size\":256,\"num_hidden_layers\":1,\"num_attention_heads\":4," \
    "\"num_key_value_heads\":2,\"vocab_size\":99,\"block_configs\":[" blocks "]}"
#define BLOCK(attention, ffn) \
    "{\"attention\":{\"no_op\":false" attention "},\"ffn\":{\"no_op\":false" ffn "}}"

static const struct refused {
    const char *config, *message; /* a part of the error; NULL: accepted */
} refusals[] = {
    {"{" LLAMA "}", NULL},
    {PRUNED(BLOCK("", "")), NULL},
    {PRUNED(BLOCK(",\"n_heads_in_group\":2", ",\"intermediate_size\":256")), NULL},
    {PRUNED(BLOCK(",\"n_heads_in_group\":2,\"num_sink_tokens\":null,\"sparsify\":null,"
                  "\"replace_with_linear\":false,\"unshifted_sink\":false,"
                  "\"use_prefill_window_in_sink_attention\":false,\"window_length\":null",
                  ",\"ffn_mult\":5.25,\"replace_with_linear\":false,\"sparsify\":null")), NULL},
    {PRUNED("{\"attention\":{\"no_op\":true,\"n_heads_in_group\":null},"
            "\"ffn\":{\"no_op\":true,\"ffn_mult\":null}}"), NULL},
    {PRUNED(""), "block_configs: expected an array of 1, one for each block, got one of 0"},
    {PRUNED(BLOCK("", "") "," BLOCK("", "")), "expected an array of 1, one for each block, got one "
                                              "of 2"},
    {PRUNED(BLOCK(",\"n_heads_in_group\":4", "")),
     "block_configs: block 0: attention: n_heads_in_group: expected 2, got 4"},
    {PRUNED(BLOCK("", ",\"intermediate_size\":128")),
     "block_configs: block 0: ffn: intermediate_size: expected 256, got 128"},
    {PRUNED(BLOCK("", ",\"ffn_mult\":8")),
     "ffn: ffn_mult: expected what gives the model's intermediate_size 256, got 8"},
    {PRUNED(BLOCK("", ",\"ffn_mult\":-0.5")), "ffn_mult: expected a number from"},
    {PRUNED(BLOCK("", ",\"replace_with_linear\":true")),
     "ffn: replace_with_linear: expected null or false"},
    {PRUNED(BLOCK(",\"replace_with_linear\":true", "")), "attention: replace_with_linear"},
    {PRUNED(BLOCK(",\"window_length\":8", "")), "window_length: expected null or false"},
    {"{" LLAMA ",\"sliding_window\":null,\"num_local_experts\":0,\"quantization_config\":null}",
     NULL},
    {"{" LLAMA ",\"sliding_window\":4096}", "sliding_window"},
    {"{" OTHER("mistral") ",\"sliding_window\":0}",
     "\"sliding_window\": expected 1 or more for block 0, got 0"},
    {"{" OTHER("qwen2") ",\"sliding_window\":0,\"use_sliding_window\":true}", NULL},
    {"{" OTHER("qwen2") ",\"sliding_window\":0,\"use_sliding_window\":true,"
     "\"max_window_layers\":1}", "for block 1, got 0"},
    {"{" OTHER("qwen2") ",\"sliding_window\":0,\"use_sliding_window\":false}", NULL},
    {"{" LLAMA ",\"sliding_window\":9}", "\"sliding_window\": sliding windows are not supported"},
    {"{" LLAMA ",\"num_local_experts\":8}", "num_local_experts"},
    {"{" LLAMA ",\"num_experts\":8}", "num_experts"},
    {"{" LLAMA ",\"final_logit_softcapping\":30.0}", "final_logit_softcapping"},
    {"{" LLAMA ",\"logits_scaling\":8.0}", "logits_scaling"},
    {"{" LLAMA ",\"hidden_act\":\"mish\"}", "\"hidden_act\": expected silu"},
    {"{" LLAMA ",\"hidden_act\":7}", "hidden_act"},
    {"{" LLAMA ",\"layer_types\":[\"full_attention\",\"full_attention\"]}", NULL},
    {"{" LLAMA ",\"layer_types\":[\"full_attention\"]}", "one for each block, got 1"},
    {"{" LLAMA ",\"layer_types\":[\"full_attention\",\"linear_attention\"]}", "linear_attention"},
    {"{" LLAMA ",\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", "sliding_attention"},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2.0}}", NULL},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":\"proportional\"}}", "proportional"},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\"}}", "factor: expected a number above 0, got "
     "nothing"},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}}", "above 0"},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0,\"beta_fast\":-1}}",
     "beta_fast"},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1],"
     "\"long_factor\":[1]}}", "array of 8"},
    {"{" LLAMA ",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1e4}}}",
     "\"rope_parameters\": those by type of layer are not supported for llama"},
    {"{" LLAMA ",\"rope_parameters\":{\"partial_rotary_factor\":1.5}}", "partial_rotary_factor"},
    {"{" OTHER("stablelm") ",\"rope_parameters\":{\"partial_rotary_factor\":0.01}}",
     "rotary dimension"},
    {"{" LLAMA ",\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2,"
     "\"partial_rotary_factor\":0.5}}", "turns whole heads"},
    {"{" LLAMA ",\"partial_rotary_factor\":0.5,\"rope_scaling\":{\"type\":\"linear\","
     "\"factor\":2}}", "turns whole heads"},
    {"{" LLAMA ",\"num_key_value_heads\":3}", "KV heads"},
    {"{" LLAMA ",\"num_hidden_layers_\":1,\"head_dim\":1}", "head_dim"},
    {"{\"model_type\":\"llama\",\"hidden_size\":64}", "\"num_hidden_layers\": required"},
    {"{\"model_type\":\"mamba\"}", "unknown architecture"},
    {"{" OTHER("mixtral") ",\"num_local_experts\":4,\"num_experts_per_tok\":5}",
     "expected 1 to 4, got 5"},
    {"{" OTHER("mixtral") ",\"num_local_experts\":4000000000}", "num_local_experts"},
    {"{" OTHER("mixtral") ",\"num_local_experts\":-1}", "num_local_experts"},
    {"{" OTHER("qwen3_moe") ",\"mlp_only_layers\":[1,99999999999]}", NULL},
    {"{" OTHER("qwen3_moe") ",\"mlp_only_layers\":[\"a\"]}", "mlp_only_layers"},
    {"{" OTHER("qwen3_moe") ",\"decoder_sparse_step\":0}", "decoder_sparse_step"},
    {"{" OTHER("gemma2") "}", NULL},
    {"{" OTHER("gemma2") ",\"attn_logit_softcapping\":1e300}", "attn_logit_softcapping"},
    {"{" OTHER("gemma3_text") ",\"sliding_window\":0,"
     "\"layer_types\":[\"full_attention\",\"full_attention\"]}", NULL},
    {"{" OTHER("gemma3_text") ",\"sliding_window\":0,"
     "\"layer_types\":[\"full_attention\",\"sliding_attention\"]}",
     "\"sliding_window\": expected 1 or more for block 1, got 0"},
    {"{" OTHER("gemma3_text") ",\"sliding_window\":null,"
     "\"layer_types\":[\"sliding_attention\",\"full_attention\"]}", "for block 0, got none"},
    {"{" OTHER("gemma3_text") ",\"sliding_window\":0}", "for block 0, got 0"},
    {"{" OTHER("gemma3_text") ",\"use_bidirectional_attention\":true}",
     "use_bidirectional_attention"},
    {"{" OTHER("smollm3") ",\"no_rope_layers\":[1]}", "no_rope_layers"},
    {"{" OTHER("smollm3") ",\"no_rope_layers\":[1,true]}", "no_rope_layers"},
    {"{" OTHER("stablelm") ",\"qk_layernorm\":true}", "qk_layernorm"},
    {"{" OTHER("stablelm") ",\"qk_layernorm\":false}", NULL},
    {"{" OTHER("gpt2") ",\"scale_attn_weights\":false}", "scale_attn_weights"},
    {"{" OTHER("gpt2") ",\"add_cross_attention\":true}", "add_cross_attention"},
    {"{\"model_type\":\"gemma3\",\"text_config\":{\"model_type\":\"gemma3\","
     "\"text_config\":{\"model_type\":\"x\"}}}", "unknown architecture \"x\""},
};

static void test_refused(const struct refused *r) {
    fc_model m;
    fc_error err;
    memset(&err, 0, sizeof err);
    fc_code code = configure(&m, r->config, &err);
    if (!r->message) T_OK(code == FC_OK, "%s: %s", r->config, err.msg);
    else
        T_OK(code != FC_OK && strstr(err.msg, r->message) != NULL,
             "%s: expected \"%s\", got \"%s\"", r->config, r->message, err.msg);
    end(&m);
}

/* Every row of the table by itself. */
static void test_rows(void) {
    for (const fci_architecture *a = fci_architectures(); a->name; a++) {
        fc_model m;
        fc_error err;
        char config[512];
        snprintf(config, sizeof config,
                 "{\"architectures\":[\"%s\"],\"hidden_size\":64,\"intermediate_size\":96,\"num_"
                 "hidden_layers\":2,"
                 "\"num_attention_heads\":4,\"num_key_value_heads\":4,\"vocab_size\":99}",
                 a->class_name);
        T_OK(configure(&m, config, &err) == FC_OK && m.architecture == a, "%s: %s", a->name,
             err.msg);
        end(&m);
        T_OK(a->gguf == NULL || a->gguf[0], "%s: gguf name", a->name);
    }
    const size_t n_fields = sizeof fci_fields_table / sizeof(fci_field) - 1;
    for (size_t i = 0; i <= n_fields; i++) {
        const fci_field *f = fci_fields() + i;
        T_OK((f->json || f->gguf) == (i < n_fields), "field %d", (int)i);
    }
    const size_t n_rows = sizeof fci_names_table / sizeof(fci_tensor_row) - 1;
    for (size_t i = 1; i <= n_rows; i++) {
        const fci_tensor_row *row = fci_tensor_rows() + i;
        T_OK(row->slot >= row[-1].slot || row->slot == FCI_Q_NORM, "slots in order: %d", (int)i);
        T_OK((row->gguf != NULL) == (i < n_rows), "row %d", (int)i);
    }
}

/* What transformers takes where a setting is left out and another one makes it count
   (tools/check_defaults.py has them all). */
static void test_left_out(void) {
    static const char *const windowed[] = {OTHER("qwen2"), OTHER("qwen3"), OTHER("qwen3_moe")};
    fc_model m;
    fc_error err;
    char config[1024];
    for (size_t i = 0; i < sizeof windowed / sizeof windowed[0]; i++) {
        snprintf(
            config, sizeof config,
            "{%s,\"num_experts_per_tok\":2,\"use_sliding_window\":true,\"max_window_layers\":1}",
            windowed[i]);
        T_OK(configure(&m, config, &err) == FC_OK && m.hyper.blocks[1].window == 4096, "%s: %s",
             config, err.msg);
        end(&m);
    }
    snprintf(config, sizeof config,
             "{%s,\"max_position_embeddings\":131072,\"rope_scaling\":{\"type\":\"longrope\","
             "\"short_factor\":"
             "[1,1,1,1,1,1,1,1],\"long_factor\":[2,2,2,2,2,2,2,2]}}",
             OTHER("phi3"));
    T_OK(configure(&m, config, &err) == FC_OK && m.hyper.ropes[0].original == 4096 &&
             m.hyper.ropes[0].factor == 32,
         "%s: %s", config, err.msg);
    end(&m);
}

/* Hyperparameters as a JSON object. */
static const char *show_hyper(const fci_hyper *h) {
    static const char *const activations[] = {"silu", "gelu", "gelu-tanh", "relu", "relu2"};
    static char out[1 << 16];
    int n = 0;
#define TRAIT(name) ((h->traits & FCI_TRAIT_##name) ? "true" : "false")
    n +=
        sprintf(out + n,
                "{\"kv\":%d,\"head\":%d,\"ff\":%d,\"positions\":%d,\"rotary\":%d,\"eps\":%.9g,"
                "\"scale\":%.9g,\"caps\":[%.9g,%.9g],"
                "\"factors\":[%.9g,%.9g,%.9g],\"act\":\"%s\",\"tied\":%s,\"qkv_bias\":%s,\"o_"
                "bias\":%s,\"ffn_bias\":%s,\"parallel\":%s",
                (int)h->n_kv_heads, (int)h->head_dim, (int)h->ff, (int)h->max_positions,
                (int)h->rotary_dim, h->norm_eps, h->attention_scale, h->attention_cap, h->logit_cap,
                h->embedding_scale, h->residual_scale, h->logit_divisor, activations[h->activation],
                TRAIT(TIED), TRAIT(QKV_BIAS), TRAIT(O_BIAS), TRAIT(FFN_BIAS), TRAIT(PARALLEL));
    n += sprintf(out + n, ",\"experts\":[%d,%d,%d,%s]", (int)h->n_experts, (int)h->n_used,
                 (int)h->expert_ff, TRAIT(TOP_SUM));
    for (int i = 0; i < 2; i++) {
        const fci_rope *r = &h->ropes[i];
        n += sprintf(out + n, ",\"rope%d\":[%.9g,%d,%.9g,%.9g,%.9g]", i, r->theta, (int)r->scaling,
                     r->factor, r->original, r->attention);
    }
    for (uint32_t b = 0; b < h->n_blocks; b++)
        n += sprintf(out + n, "%s[%u,%u,%s]", b ? "," : ",\"blocks\":[", h->blocks[b].window,
                     h->blocks[b].rope, h->blocks[b].experts ? "true" : "false");
    n += sprintf(out + n, "]}");
#undef TRAIT
    return out;
}

/* Numbers as near as float32, the rest the same; members that `want` has not do not count. */
static int same_json(const fci_json *want, const fci_json *got) {
    const fci_json *a, *b;
    if (!got || want->type != got->type) return 0;
    switch (want->type) {
    case FCI_JSON_NUMBER: return fabs(want->number - got->number) <= 1e-6 * fabs(want->number);
    case FCI_JSON_BOOL: return want->truth == got->truth;
    case FCI_JSON_STRING: return fci_eq(want->text, got->text);
    case FCI_JSON_ARRAY:
        a = fci_json_first(want), b = fci_json_first(got);
        for (uint32_t i = 0; i < want->count && want->count == got->count;
             i++, a = fci_json_next(a), b = fci_json_next(b))
            if (!same_json(a, b)) return 0;
        return want->count == got->count;
    default: return 1;
    }
}

/* A line: a configuration, and what transformers makes of it. Returns the first member that
   differs, or NULL. */
static const char *check_line(const char *line, size_t length, char *differs, size_t size) {
    fc_env env;
    fc_model m;
    fc_error err;
    fci_arena scratch;
    const fci_json *root, *got;
    memset(&env, 0, sizeof env);
    memset(&m, 0, sizeof m);
    memset(&scratch, 0, sizeof scratch);
    fci_context_basic(&m.c, &env);
    m.arena.c = scratch.c = &m.c;
    differs[0] = 0;
    fc_code code = fci_json_parse(&m.c, &scratch, line, length, 0, &root, &err);
    if (!code) code = fci_config_json(&m, fci_json_get(root, "config"), &scratch, &err);
    if (code) snprintf(differs, size, "%s", err.msg);
    else {
        const char *text = show_hyper(&m.hyper);
        const fci_json *want = fci_json_get(root, "want");
        if (fci_json_parse(&m.c, &scratch, text, strlen(text), 0, &got, &err))
            snprintf(differs, size, "%s", err.msg);
        const fci_json *key = fci_json_first(want);
        for (uint32_t i = 0; i < want->count && !differs[0]; i++, key = fci_json_next(key + 1)) {
            char name[32];
            snprintf(name, sizeof name, "%.*s", (int)key->text.n, key->text.p);
            if (!same_json(key + 1, fci_json_get(got, name))) snprintf(differs, size, "%s", name);
        }
    }
    end(&m);
    fci_arena_free(&scratch);
    return differs[0] ? differs : NULL;
}

/* Old and new spellings together, for every family: tools/check_defaults.py --write made the file.
   */
static void test_as_transformers(void) {
    size_t size = 0, n = 0;
    char differs[600], *all = t_read("tests/data/configs.jsonl", &size);
    if (!T_OK(all != NULL, "tests/data/configs.jsonl cannot be read")) return;
    for (char *line = all; line < all + size; n++) {
        char *stop = strchr(line, '\n');
        if (!stop) break;
        const char *bad = check_line(line, (size_t)(stop - line), differs, sizeof differs);
        T_OK(!bad, "%.*s: %s", (int)(stop - line) < 300 ? (int)(stop - line) : 300, line, bad);
        line = stop + 1;
    }
    T_OK(n > 500, "%d configurations", (int)n);
    free(all);
}

/* For tools/check_defaults.py: what a config.json on standard input comes to. */
static int print_hyper(void) {
    static char config[1 << 16];
    fc_model m;
    fc_error err;
    config[fread(config, 1, sizeof config - 1, stdin)] = 0;
    if (configure(&m, config, &err)) {
        printf("{\"error\":\"%s\"}\n", err.code == FC_ERR_UNSUPPORTED ? "unsupported" : "format");
        fprintf(stderr, "%s\n", err.msg);
        end(&m);
        return 0;
    }
    puts(show_hyper(&m.hyper));
    end(&m);
    return 0;
}

#ifndef FINERCUT_NO_GGUF
/* Rope settings of a GGUF as llama.cpp reads them: a factor without a type is linear, under either
   key, and 0 or none is no scaling. */
static void test_gguf_rope(void) {
    static const struct {
        const char *type, *key;
        double value;
        fci_rope_scaling scaling; /* where it is no error */
        const char *message;
    } cases[] = { /* the first with Granite's traits */
        {NULL, "l.rope.scaling.finetuned", 0, FCI_ROPE_NONE,
         "l.rope.scaling.finetuned: expected true, as llama.cpp"},
        {NULL, "l.rope.scaling.finetuned", 0, FCI_ROPE_NONE, NULL},
        {NULL, NULL, 0, FCI_ROPE_NONE, NULL},
        {NULL, "l.rope.scaling.factor", 4, FCI_ROPE_LINEAR, NULL},
        {NULL, "l.rope.scale_linear", 4, FCI_ROPE_LINEAR, NULL},
        {NULL, "l.rope.scaling.factor", 0, FCI_ROPE_NONE, NULL},
        {"linear", "l.rope.scale_linear", 4, FCI_ROPE_LINEAR, NULL},
        {"linear", "l.rope.scaling.factor", 0, FCI_ROPE_NONE, NULL},
        {"linear", NULL, 0, FCI_ROPE_NONE, NULL},
        {"none", "l.rope.scaling.factor", 4, FCI_ROPE_NONE, NULL},
        {"yarn", "l.rope.scale_linear", 4, FCI_ROPE_YARN, NULL},
        {"yarn", NULL, 0, FCI_ROPE_YARN, "l.rope.scaling.factor: expected a number above 0"},
        {NULL, "l.rope.scale_linear", -1, FCI_ROPE_LINEAR, "l.rope.scale_linear: expected a num"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fc_container c;
        fci_config_source s;
        fci_context context;
        fci_kv kvs[2];
        fci_hyper h;
        fc_error err;
        size_t twice, n = 0;
        memset(&c, 0, sizeof c);
        memset(&s, 0, sizeof s);
        memset(kvs, 0, sizeof kvs);
        memset(&h, 0, sizeof h);
        memset(&err, 0, sizeof err);
        fci_context_basic(&context, NULL);
        if (cases[i].type) {
            kvs[n].key = fci_s("l.rope.scaling.type");
            kvs[n].type = FCI_KV_STRING;
            kvs[n].data = cases[i].type;
            kvs[n++].bytes = strlen(cases[i].type);
        }
        if (cases[i].key) {
            kvs[n].key = fci_s(cases[i].key);
            kvs[n].type = FCI_KV_F64;
            kvs[n++].data = &cases[i].value;
        }
        c.by_key.c = &context;
        c.gguf = true;
        c.kvs = kvs;
        s.gguf = &c;
        s.gguf_name = "l";
        h.max_positions = 64;
        h.traits = i == 0 ? FCI_TRAIT_MULTIPLIERS : 0;
        T_OK(!fci_map_names(&c.by_key, kvs, n, sizeof *kvs, &twice, &err), "%s", err.msg);
        const fc_code code = fci_config_rope_gguf(&s, &h, &err);
        if (cases[i].message)
            T_OK(code == (i ? FC_ERR_FORMAT : FC_ERR_UNSUPPORTED) &&
                     strstr(err.msg, cases[i].message),
                 "%d: expected %s, got %s", (int)i, cases[i].message, err.msg);
        else
            T_OK(code == FC_OK && h.ropes[0].scaling == cases[i].scaling &&
                     (cases[i].scaling == FCI_ROPE_NONE || h.ropes[0].factor == 4),
                 "%d: scaling %d by %g: %s", (int)i, (int)h.ropes[0].scaling, h.ropes[0].factor,
                 err.msg);
        fci_map_free(&c.by_key);
    }
}
#endif

int main(int argc, char **argv) {
    (void)t_shared; /* not needed here */
    if (argc == 2 && strcmp(argv[1], "--hyper") == 0) return print_hyper();
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) test_published(&models[i]);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) test_refused(&refusals[i]);
    test_rows();
    test_left_out();
#ifndef FINERCUT_NO_GGUF
    test_gguf_rope();
#endif
    test_as_transformers();
    return t_end("test_architecture");
}
